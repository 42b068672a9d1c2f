// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
)

// gpuProvisioner is the name of this project's node provisioner.
const gpuProvisioner = "gpu-provisioner"

const labelName = "app.kubernetes.io/name"

// operator is an operator that can be installed. lacks says what does not work without it.
type operator struct {
	name, lacks string
	missing     grade
}

func operators() []operator {
	return []operator{
		{"workspace-operator", "Workspaces are not reconciled", gradeFail},
		{"tuning-operator", "Workspaces with a tuning section do not continue", gradeWarn},
		{gpuProvisioner, "", gradeOK}, // checkProvisioner reports its absence
	}
}

// checkOperators checks the Deployments, by label, and the leases. A pod without the lease does no work. An operator
// that holds its lease works even if it runs outside the cluster.
func (e *environment) checkOperators(ctx context.Context, c *cluster, _ servedAPIs) []diagnosis {
	leases := &coordinationv1.LeaseList{}
	leaseErr := c.client.List(ctx, leases)
	var out []diagnosis
	for _, o := range operators() {
		found := &appsv1.DeploymentList{}
		if err := c.client.List(ctx, found, client.MatchingLabels{labelName: o.name}); err != nil {
			return append(out, notChecked(checkNameOperators, "Deployments of all namespaces", err))
		}
		for i := range found.Items {
			out = append(out, checkDeployment(o, &found.Items[i]))
		}
		holds := checkLease(o.name, leases.Items, e.clock.Now())
		switch {
		case leaseErr == nil && (len(found.Items) > 0 || holds.Grade == gradeOK):
			out = append(out, holds)
		case len(found.Items) == 0 && o.missing != gradeOK:
			out = append(
				out,
				diagnosis{
					o.missing,
					checkNameOperators,
					fmt.Sprintf(
						"no Deployment is labelled %s=%s, and its lease has no holder: %s", labelName, o.name, o.lacks,
					),
					fmt.Sprintf("kubectl apply --server-side -k %s/config/default", o.name),
				},
			)
		}
	}
	if leaseErr != nil {
		out = append(out, notChecked(checkNameOperators, "Leases of all namespaces", leaseErr))
	}
	return out
}

// checkNameOperators is the name of the checks of the operators.
const checkNameOperators = "operators"

func checkDeployment(o operator, d *appsv1.Deployment) diagnosis {
	where := d.Namespace + "/" + d.Name
	if d.Status.AvailableReplicas > 0 {
		return diagnosis{
			Grade: gradeOK,
			Check: checkNameOperators,
			Text: fmt.Sprintf(
				"%s runs: %s has %d of %d replicas available", o.name, where, d.Status.AvailableReplicas, desired(d.Spec.Replicas),
			),
		}
	}
	return diagnosis{
		gradeFail,
		checkNameOperators,
		fmt.Sprintf("%s does not run: %s has none of %d replicas available", o.name, where, desired(d.Spec.Replicas)),
		fmt.Sprintf(
			"kubectl -n %s describe deployment %s, and kubectl -n %s logs deployment/%s", d.Namespace, d.Name, d.Namespace,
			d.Name,
		),
	}
}

// leaseSuffix is the suffix of the name of each operator's lease.
const leaseSuffix = ".kaito.sh"

func checkLease(name string, leases []coordinationv1.Lease, now time.Time) diagnosis {
	for i := range leases {
		l := &leases[i]
		if l.Name != name+leaseSuffix {
			continue
		}
		where := l.Namespace + "/" + l.Name
		if l.Spec.RenewTime == nil || l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
			return diagnosis{
				gradeFail,
				checkNameOperators,
				fmt.Sprintf("the lease %s has no holder: %s does no work", where, name),
				"see the operator's log: it cannot acquire the lease, or was just stopped",
			}
		}
		length := 15 * time.Second // controller-runtime's
		if l.Spec.LeaseDurationSeconds != nil {
			length = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
		}
		since := now.Sub(l.Spec.RenewTime.Time)
		if since > length {
			return diagnosis{
				gradeFail,
				checkNameOperators,
				fmt.Sprintf(
					"the lease %s was renewed %s ago by %s, and is valid for %s: %s does no work", where, age(l.Spec.RenewTime.Time, now),
					*l.Spec.HolderIdentity, length, name,
				),
				"see the operator's pod and log",
			}
		}
		return diagnosis{
			Grade: gradeOK,
			Check: checkNameOperators,
			Text:  fmt.Sprintf("%s holds the lease %s", *l.Spec.HolderIdentity, where),
		}
	}
	return diagnosis{
		gradeWarn,
		checkNameOperators,
		fmt.Sprintf(
			"there is no lease %s: %s never ran here, or runs with --leader-elect=false", name+leaseSuffix, name,
		),
		"see the operator's log",
	}
}

// checkProvisioner looks for a node provisioner: the gpu-provisioner, or another provider of Karpenter's API.
func (e *environment) checkProvisioner(ctx context.Context, c *cluster, apis servedAPIs) []diagnosis {
	const check = "provisioner"
	list := &appsv1.DeploymentList{}
	if err := c.client.List(ctx, list); err != nil {
		return []diagnosis{notChecked(check, "Deployments of all namespaces", err)}
	}
	var names []string
	leases := &coordinationv1.LeaseList{}
	if err := c.client.List(ctx, leases); err == nil &&
		checkLease(gpuProvisioner, leases.Items, e.clock.Now()).Grade == gradeOK {
		names = append(names, gpuProvisioner+" (holds its lease)")
	}
	for i := range list.Items {
		d := &list.Items[i]
		if name := d.Labels[labelName]; name == gpuProvisioner || strings.Contains(name, "karpenter") ||
			strings.Contains(d.Name, "karpenter") {
			names = append(names, d.Namespace+"/"+d.Name)
		}
	}
	if len(names) == 0 {
		return []diagnosis{
			{
				gradeWarn,
				check,
				"there is no Deployment of gpu-provisioner or Karpenter: no nodes are created, unless a provisioner runs outside the cluster (such as AKS node auto-provisioning)",
				"install one, or use your own nodes with resource.provisioning: Never. See " + kubectl + " explain " + kaitov1alpha1.ReasonNoProvisioner,
			},
		}
	}
	out := []diagnosis{{Grade: gradeOK, Check: check, Text: strings.Join(names, ", ")}}
	if !apis.has(nodeclassv1alpha1.GroupVersion, "kaitonodeclasses") {
		return out
	}
	classes := &nodeclassv1alpha1.KaitoNodeClassList{}
	if err := c.client.List(ctx, classes); err != nil {
		return append(out, notChecked(check, "KaitoNodeClasses", err))
	}
	if len(classes.Items) == 0 {
		return append(
			out,
			diagnosis{
				gradeFail,
				check,
				"there is no KaitoNodeClass, so no NodeClaim is launched",
				"the gpu-provisioner creates one named default: check that it runs",
			},
		)
	}
	for i := range classes.Items {
		class := &classes.Items[i]
		ready := meta.FindStatusCondition(class.Status.Conditions, kaitov1alpha1.ConditionReady)
		switch {
		case meta.IsStatusConditionTrue(class.Status.Conditions, kaitov1alpha1.ConditionReady):
			out = append(
				out, diagnosis{Grade: gradeOK, Check: check, Text: fmt.Sprintf("KaitoNodeClass %s is Ready", class.Name)},
			)
		case ready == nil:
			out = append(
				out,
				diagnosis{
					gradeFail,
					check,
					fmt.Sprintf("KaitoNodeClass %s has no status: the gpu-provisioner has not reconciled it", class.Name),
					"check that the gpu-provisioner runs",
				},
			)
		default:
			out = append(
				out,
				diagnosis{
					gradeFail,
					check,
					fmt.Sprintf("KaitoNodeClass %s is not Ready: %s: %s", class.Name, ready.Reason, ready.Message),
					"correct it: " + kubectl + " explain NodeClassNotReady",
				},
			)
		}
	}
	return out
}

// checkGPUs checks that GPU nodes report their GPUs, which is the task of NVIDIA's device plugin.
func checkGPUs(ctx context.Context, c *cluster, _ servedAPIs) []diagnosis {
	const check = "GPUs"
	var out []diagnosis
	plugin, err := c.devicePlugin(ctx)
	if err != nil {
		out = append(out, notChecked(check, "DaemonSets of all namespaces", err))
	}
	nodes := &corev1.NodeList{}
	if err := c.client.List(ctx, nodes); err != nil {
		return append(out, notChecked(check, "Nodes", err))
	}
	gpus, with := int64(0), 0
	var without []string
	for i := range nodes.Items {
		n := &nodes.Items[i]
		allocatable := n.Status.Allocatable[kaitov1alpha1.ResourceNvidiaGPU]
		switch {
		case !allocatable.IsZero():
			with++
			gpus += allocatable.Value()
		case isGPUNode(n):
			without = append(without, n.Name)
		}
	}
	if plugin != "" {
		out = append(out, diagnosis{Grade: gradeOK, Check: check, Text: "NVIDIA's device plugin runs as DaemonSet " + plugin})
	} else if err == nil && with == 0 {
		out = append(
			out,
			diagnosis{
				gradeWarn,
				check,
				"there is no DaemonSet of NVIDIA's device plugin: GPU nodes report no GPUs, unless their image includes the plugin",
				"install it (https://github.com/NVIDIA/k8s-device-plugin), or the GPU operator",
			},
		)
	}
	if with > 0 {
		out = append(
			out,
			diagnosis{
				Grade: gradeOK,
				Check: check,
				Text:  fmt.Sprintf("%s allocatable on %s", plural(int(gpus), "GPU"), plural(with, "node")),
			},
		)
	}
	if len(without) > 0 {
		slices.Sort(without)
		out = append(
			out,
			diagnosis{
				gradeFail,
				check,
				fmt.Sprintf("%s no allocatable GPUs: %s", nodesReport(len(without)), strings.Join(without, ", ")),
				"check the device plugin's pods and the driver on them: " + kubectl + " explain " + kaitov1alpha1.ReasonAcceleratorNotReady,
			},
		)
	}
	if with+len(without) == 0 {
		out = append(
			out,
			diagnosis{Grade: gradeOK, Check: check, Text: "there is no GPU node; one is created when a Workspace needs it"},
		)
	}
	return out
}

func nodesReport(n int) string {
	if n == 1 {
		return "1 GPU node reports"
	}
	return fmt.Sprintf("%d GPU nodes report", n)
}

// isGPUNode reports whether a node should have GPUs: it was created for a Workspace and is Ready, or AKS or NVIDIA's
// feature discovery labelled it.
func isGPUNode(n *corev1.Node) bool {
	if n.Labels["kubernetes.azure.com/accelerator"] == "nvidia" || n.Labels["nvidia.com/gpu.present"] == "true" {
		return true
	}
	return n.Labels[kaitov1alpha1.LabelWorkspaceUID] != "" && placement.Unusable(n, 0) == ""
}

// devicePlugin finds the DaemonSet by its image or its name.
func (c *cluster) devicePlugin(ctx context.Context) (string, error) {
	list := &appsv1.DaemonSetList{}
	if err := c.client.List(ctx, list); err != nil {
		return "", err
	}
	for i := range list.Items {
		d := &list.Items[i]
		for _, container := range d.Spec.Template.Spec.Containers {
			if strings.Contains(container.Image, "k8s-device-plugin") || strings.Contains(d.Name, "nvidia-device-plugin") {
				return d.Namespace + "/" + d.Name, nil
			}
		}
	}
	return "", nil
}
