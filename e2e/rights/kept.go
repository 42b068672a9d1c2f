// SPDX-License-Identifier: Apache-2.0

package rights

// Keep is why an operator keeps rights that the suites need not use.
type Keep struct {
	Operator, Group, Resource string
	Verbs                     []string
	Why                       string
}

// Reasons that several have.
const (
	blockOwnerDeletion = "no call: the admission plugin OwnerReferencesPermissionEnforcement asks for it, where a cluster has it on, when a child's owner reference blocks its owner's deletion"
	repeatedEvent      = "an event that is repeated within minutes is counted by a patch, which depends on time"
	volumes            = "the drain of a Node whose pods have volumes; simulated nodes attach none"
	nodePools          = "only claims that carry a NodePool's label are counted into it, and ours carry none; NodeClaims of Karpenter's own provisioning do"
)

// Kept are the rights that stay though no call of the suites may have needed them. Everything else that no call needs
// is to be taken out of the markers.
var Kept = []Keep{
	{
		"workspace-operator",
		"",
		"secrets",
		[]string{"dryrun"},
		"no call: the policy secret-existence knows the operator by it, see docs/adr/0004-secret-existence.md",
	},
	{
		"workspace-operator",
		"",
		"pods",
		[]string{"dryrun"},
		"no call: the policy pod-dry-run knows the operator by it, see docs/adr/0012-dry-run-before-the-bill.md",
	},
	{
		"workspace-operator",
		"",
		"configmaps",
		[]string{"get"},
		"a ConfigMap that a Workspace names is read by name; the operator's own tests have such Workspaces under its role",
	},
	{"workspace-operator", "kaito.sh", "workspaces/finalizers", []string{"update"}, blockOwnerDeletion},
	{"workspace-operator", "events.k8s.io", "events", []string{"patch"}, repeatedEvent},
	{
		"workspace-operator",
		"kaito.sh",
		"workspaces",
		[]string{"get"},
		"read past the cache before a claim is deleted whose Workspace has lost its finalizer by force: a machine hangs on it; the operator's own tests do that under its role",
	},
	{
		"workspace-operator",
		"policy",
		"poddisruptionbudgets",
		[]string{"create", "list", "patch", "watch"},
		"a server of several nodes has one; the operator's own tests have such servers under its role",
	},
	{
		"workspace-operator",
		"apps",
		"statefulsets",
		[]string{"create", "delete", "patch"},
		"a server of several nodes is one; the operator's own tests have such servers under its role",
	},
	{
		"workspace-operator",
		"inference.networking.k8s.io",
		"inferencepools",
		[]string{"create", "delete", "list", "patch", "watch"},
		"a Workspace may ask for a pool where the Gateway API Inference Extension is; the operator's own tests have such a Workspace under its role",
	},

	{"gpu-provisioner", "karpenter.sh", "machines/finalizers", []string{"update"}, blockOwnerDeletion},
	{"gpu-provisioner", "karpenter.sh", "nodeclaims/finalizers", []string{"update"}, blockOwnerDeletion},
	{"gpu-provisioner", "", "events", []string{"patch"}, repeatedEvent},
	{"gpu-provisioner", "events.k8s.io", "events", []string{"patch"}, repeatedEvent},
	{"gpu-provisioner", "", "persistentvolumeclaims", []string{"list", "watch"}, volumes},
	{"gpu-provisioner", "storage.k8s.io", "volumeattachments", []string{"list", "watch"}, volumes},
	{
		"gpu-provisioner",
		"",
		"pods",
		[]string{"delete"},
		"the drain deletes pods that outlive a claim's terminationGracePeriod, which ours do not set, and other NodeClaims may",
	},
	{"gpu-provisioner", "karpenter.sh", "nodepools", []string{"list", "watch"}, nodePools},
	{"gpu-provisioner", "karpenter.sh", "nodepools/status", []string{"patch"}, nodePools},

	{"tuning-operator", "tuning.kaito.sh", "tuningjobs/finalizers", []string{"update"}, blockOwnerDeletion},
	{"tuning-operator", "events.k8s.io", "events", []string{"patch"}, repeatedEvent},
	{
		"tuning-operator",
		"",
		"configmaps",
		[]string{"get"},
		"the training's settings are read by name where a TuningJob has any: the operator's own tests have such TuningJobs under its role",
	},
	{
		"tuning-operator",
		"",
		"persistentvolumeclaims",
		[]string{"create", "delete", "get", "patch"},
		"checkpoints are in a claim where the cluster has a default storage class, which the suites' clusters have not",
	},
	{
		"tuning-operator",
		"",
		"services",
		[]string{"create", "get", "patch"},
		"ranks of several nodes find one another by a Service; the operator's own tests have such TuningJobs under its role",
	},
	{
		"tuning-operator",
		"batch",
		"jobs",
		[]string{"delete", "get", "patch"},
		"a Job is suspended, resumed, deleted when its time is over, and read past the cache when another of its name is there: the operator's own tests do each under its role",
	},
}
