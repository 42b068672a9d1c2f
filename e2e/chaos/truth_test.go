// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/weather"
	"kaito.sh/e2e/stack"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
)

// reasonsOf are the reasons that a Workspace may truthfully give for what a fault did to its nodes. LaunchFailed is
// what is left of a claim that a killed operator could not read the reason of any more.
func reasonsOf(f fakeazure.Fault) []string {
	reasons := map[string][]string{
		"FamilyQuota": {"QuotaExceeded"}, "SKUNotAvailable": {"SKUNotAvailable"}, "AllocationFailed": {"CapacityUnavailable"},
		"Forbidden": {"IdentityUnauthorized", "QuotaDenied", "AzureError"}, "Unauthorized": {"IdentityUnauthorized"}, "Throttled": {"Throttled"},
		"ServerError": {"AzureError"}, "ServiceUnavailable": {"AzureError"}, "OperationInProgress": {"ClusterBusy"}, "ETagMismatch": {"ClusterBusy"},
	}[f.Kind]
	switch {
	case f.Hang:
		reasons = append(reasons, "OperationTimedOut", "LaunchTimeout")
	case f.NeverJoins:
		reasons = append(reasons, "NodeNeverJoined", "MachineGone")
	case f.NoGPU:
		reasons = append(reasons, kaitov1alpha1.ReasonAcceleratorNotReady)
	case f.NotReady:
		reasons = append(reasons, "NodeNeverJoined", kaitov1alpha1.ReasonNodeLost)
	}
	return append(reasons, kaitov1alpha1.ReasonLaunchFailed)
}

// true says why a reason for a size is none that Azure gave; empty when it is.
func (w *world) untrue(g *guest, size, reason string) string {
	if g.poor && reason == "QuotaExceeded" {
		return ""
	}
	if w.befallen[size][reason] || w.befallen[""][reason] {
		return ""
	}
	return fmt.Sprintf(
		"%s says %s of %s, and nothing of the kind has befallen that size (what has: %v, and all: %v)", g.workspace.Name,
		reason, size, w.befallen[size], w.befallen[""],
	)
}

// settled says whether a Workspace has come to its end, and what is wrong with that.
func (w *world) settled(g *guest) (done bool, wrong string) {
	ws := g.workspace
	ready, stalled := conditions.Get(ws, conditions.Ready), conditions.Get(ws, conditions.Stalled)
	if ready == nil || ws.Status.ObservedGeneration != ws.Generation {
		return false, ""
	}
	if ready.Status == "True" {
		if g.poor {
			return true, ws.Name + " is Ready without any quota"
		}
		return true, ""
	}
	// Who has tried everything says when he tries again: a person may shorten that, but need not act.
	if ready.Reason != kaitov1alpha1.ReasonAttemptsExhausted && (stalled == nil || stalled.Status != "True") {
		return false, ""
	}
	if len(ws.Status.Attempts) == 0 {
		return true, fmt.Sprintf(
			"%s is not Ready for %s, and no attempt has failed: %s", ws.Name, ready.Reason, ready.Message,
		)
	}
	for _, a := range ws.Status.Attempts {
		if wrong := w.untrue(g, a.InstanceType, a.Reason); wrong != "" {
			return true, wrong + ": " + a.Message
		}
	}
	return true, ""
}

// refresh reads all Workspaces by one request.
func (w *world) refresh(c *assert.CollectT) {
	list := &kaitov1alpha1.WorkspaceList{}
	require.NoError(c, w.Client.List(w.Context(), list))
	found := map[string]*kaitov1alpha1.Workspace{}
	for i := range list.Items {
		found[list.Items[i].Name] = &list.Items[i]
	}
	for _, g := range w.guests {
		require.Contains(c, found, g.workspace.Name)
		g.workspace = found[g.workspace.Name]
	}
}

// settle waits until every Workspace is Ready, or Stalled or waiting for its next try with a reason that is true.
func (w *world) settle() {
	w.Helper()
	start := time.Now()
	var ready, not int
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		require.NoError(w, w.Health())
		w.look()
		w.refresh(c)
		ready, not = 0, 0
		for _, g := range w.guests {
			done, wrong := w.settled(g)
			require.Empty(w, wrong)
			if !assert.True(
				c, done, "%s is %s: %+v", g.workspace.Name, g.workspace.Status.State, g.workspace.Status.Conditions,
			) {
				return
			}
			if conditions.IsTrue(g.workspace, conditions.Ready) {
				ready++
			} else {
				not++
			}
		}
	}, w.patience, eventually.Look)
	require.Positive(w, ready, "at least one Workspace must become Ready")
	w.Logf(
		"%d Workspaces are Ready and %d are not, with true reasons, %s after the trouble", ready, not,
		time.Since(start).Round(time.Second),
	)
}

// insistEvery is how long a user waits before the next act: a hundred who act at each look would be a load test.
const insistEvery = 20 * time.Second

// forget is an administrator who knows that Azure has again what it had not, and does not wait for an hour until it is
// asked for: as the README of the gpu-provisioner says.
func (w *world) forget() {
	w.Helper()
	require.NoError(w, w.StopOperator(stack.GPUProvisioner))
	remembered := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.GPUProvisioner.Namespace(), Name: "gpu-provisioner-offerings"},
	}
	require.NoError(w, client.IgnoreNotFound(w.Client.Delete(w.Context(), remembered)))
	w.start(stack.GPUProvisioner)
}

// insist has the users of what is not Ready change something, which has it tried again at once, until all are Ready
// that there is quota for.
func (w *world) insist() {
	w.Helper()
	w.forget()
	start, acts, acted := time.Now(), 0, map[string]time.Time{}
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		require.NoError(w, w.Health())
		w.look()
		w.refresh(c)
		waiting := 0
		for _, g := range w.guests {
			ws := g.workspace
			if g.poor || conditions.IsTrue(ws, conditions.Ready) {
				continue
			}
			waiting++
			done, wrong := w.settled(g)
			require.Empty(w, wrong)
			if !done || time.Since(acted[ws.Name]) < insistEvery {
				continue
			}
			acts++
			acted[ws.Name] = time.Now()
			patch := client.MergeFrom(ws.DeepCopy())
			ws.Resource.PreferredNodes = []string{fmt.Sprintf("none-%d", acts)}
			require.NoError(c, w.Client.Patch(w.Context(), ws, patch))
		}
		assert.Zero(c, waiting, "Workspaces that there is quota for, and are not Ready")
	}, 3*w.patience, 2*eventually.Look)
	w.Logf(
		"all are Ready that there is quota for, after %d acts of users, in %s", acts, time.Since(start).Round(time.Second),
	)
}

// claims returns all NodeClaims, and for each ordinal of a Workspace its own claims, Machines or NodeClaims, that are
// not being deleted.
func (w *world) claims() (all []karpv1.NodeClaim, asked map[string][]string) {
	w.Helper()
	list := &karpv1.NodeClaimList{}
	require.NoError(w, w.Client.List(w.Context(), list))
	machines := &karpenterv1alpha5.MachineList{}
	require.NoError(w, w.Client.List(w.Context(), machines))
	asked = map[string][]string{}
	note := func(o client.Object) {
		if uid := o.GetLabels()[kaitov1alpha1.LabelWorkspaceUID]; uid != "" && o.GetDeletionTimestamp() == nil &&
			len(o.GetOwnerReferences()) == 0 {
			key := uid + " node " + o.GetAnnotations()["kaito.sh/node-ordinal"]
			asked[key] = append(asked[key], o.GetName())
		}
	}
	for i := range list.Items {
		note(&list.Items[i])
	}
	for i := range machines.Items {
		note(&machines.Items[i])
	}
	return list.Items, asked
}

// look holds everything to what must be true at any moment.
func (w *world) look() {
	w.Helper()
	claims, asked := w.claims()
	broken := w.checker.Check(weather.Picture(w.Azure.State(), claims, time.Now()))
	for key, names := range asked {
		if len(names) > 1 {
			broken = append(broken, fmt.Sprintf("Workspace %s is asked for by %s", key, strings.Join(names, " and ")))
		}
	}
	nodes := &corev1.NodeList{}
	require.NoError(w, w.Client.List(w.Context(), nodes))
	seen := map[string]string{}
	for i := range nodes.Items {
		id := nodes.Items[i].Spec.ProviderID
		if other, twice := seen[id]; twice && id != "" {
			broken = append(broken, fmt.Sprintf("Nodes %s and %s are one machine", other, nodes.Items[i].Name))
		}
		seen[id] = nodes.Items[i].Name
	}
	require.Empty(w, broken, "at step %d", w.step)
}

// everythingIsAsItShould checks that each Ready Workspace uses the planned number of nodes, that Workspaces do not
// share nodes, and that Azure has exactly the machines that are used or requested.
func (w *world) everythingIsAsItShould() {
	w.Helper()
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		w.refresh(c)
		user := map[string]string{}
		for _, g := range w.guests {
			ws := g.workspace
			if conditions.IsTrue(ws, kaitov1alpha1.ConditionInferenceReady) {
				assert.Len(c, ws.Status.WorkerNodes, int(ws.Status.Plan.Nodes), ws.Name)
			}
			for _, name := range ws.Status.WorkerNodes {
				assert.Empty(c, user[name], "%s and %s use node %s", user[name], ws.Name, name)
				user[name] = ws.Name
			}
		}
		claims, _ := w.claims()
		named := map[string]bool{}
		for i := range claims {
			named[claims[i].Status.ProviderID] = true
		}
		machines := w.machines()
		for _, id := range machines {
			assert.True(c, named[id], "machine %s has no claim", id)
		}
		assert.Len(c, machines, len(user), "machines in Azure, and nodes in use")
	}, w.patience, eventually.Look)
}

// leave has everybody go, while operators are killed once more, and waits until nothing is left anywhere.
func (w *world) leave() {
	w.Helper()
	start := time.Now()
	for i, g := range w.guests {
		require.NoError(w, client.IgnoreNotFound(w.Client.Delete(w.Context(), g.workspace)))
		if i%max(1, len(w.guests)/3) == 0 {
			w.kill()
		}
	}
	w.calm()
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		require.NoError(w, w.Health())
		w.look()
		left, err := w.Left(w.Context())
		require.NoError(c, err)
		assert.Empty(c, left)
	}, w.patience, eventually.Look)
	w.Logf("nothing is left, %s after everybody went", time.Since(start).Round(time.Second))
}
