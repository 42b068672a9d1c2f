package fakeazure

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/test/cluster"
)

// gpuResource is the extended resource of NVIDIA's device plugin.
const gpuResource = "nvidia.com/gpu"

// kwok makes Nodes that KWOK keeps alive.
type kwok struct {
	nodes   kubernetes.Interface
	catalog *catalog.Catalog
}

// NewKWOK is a node side whose machines become simulated Nodes of the cluster that the client speaks to.
func NewKWOK(client kubernetes.Interface) NodeSide {
	loaded, err := catalog.Load()
	if err != nil {
		panic(fmt.Sprintf("the embedded catalogue does not load: %v", err)) // its own tests would have failed
	}
	return &kwok{nodes: client, catalog: loaded}
}

// Join creates the Node with what a kubelet would report, and its status by the status subresource.
func (k *kwok) Join(ctx context.Context, vm VM) error {
	want := k.node(vm)
	node, err := k.nodes.CoreV1().Nodes().Create(ctx, want, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		node, err = k.nodes.CoreV1().Nodes().Get(ctx, vm.Name, metav1.GetOptions{})
	}
	if err != nil {
		return fmt.Errorf("creating Node %s: %w", vm.Name, err)
	}
	node.Status.Capacity, node.Status.Allocatable = want.Status.Capacity, want.Status.Allocatable
	node.Status.Addresses = want.Status.Addresses
	if _, err := k.nodes.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing the status of Node %s: %w", vm.Name, err)
	}
	return nil
}

// Leave deletes the Node, as AKS's cloud node manager does when the machine is gone.
func (k *kwok) Leave(ctx context.Context, vm VM) error {
	err := k.nodes.CoreV1().Nodes().Delete(ctx, vm.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Node %s: %w", vm.Name, err)
	}
	return nil
}

func (k *kwok) node(vm VM) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: vm.Name, Labels: labels(vm), Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue}},
		Spec:       corev1.NodeSpec{ProviderID: vm.ProviderID},
	}
	if vm.NotReady {
		node.Annotations[cluster.NotReadyAnnotation] = "container runtime is down"
	}
	for _, text := range vm.Taints {
		if taint, ok := parseTaint(text); ok {
			node.Spec.Taints = append(node.Spec.Taints, taint)
		}
	}
	node.Status.Capacity = k.capacity(vm)
	node.Status.Allocatable = node.Status.Capacity.DeepCopy()
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, {Type: corev1.NodeHostName, Address: vm.Name}}
	return node
}

// labels are those that AKS puts on a Node of its own accord, and the pool's.
func labels(vm VM) map[string]string {
	out := map[string]string{
		"agentpool": vm.Pool, "kubernetes.azure.com/agentpool": vm.Pool, "kubernetes.azure.com/cluster": vm.ResourceGroup,
		"kubernetes.azure.com/mode": "user", "kubernetes.azure.com/role": "agent",
		corev1.LabelInstanceTypeStable: vm.Size, corev1.LabelTopologyRegion: vm.Location, corev1.LabelTopologyZone: "0",
		corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelHostname: vm.Name,
	}
	if vm.Zone != "" {
		out[corev1.LabelTopologyZone] = vm.Location + "-" + vm.Zone
	}
	if vm.Spot {
		out["kubernetes.azure.com/scalesetpriority"] = "spot"
	}
	for key, value := range vm.Labels {
		out[key] = value
	}
	return out
}

// capacity is what a size's kubelet reports, the system's share taken off roughly.
func (k *kwok) capacity(vm VM) corev1.ResourceList {
	out := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("64Gi"),
		corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
	}
	size, err := k.catalog.Size(vm.Size)
	if err != nil {
		return out
	}
	out[corev1.ResourceCPU] = *resource.NewQuantity(int64(size.VCPUs), resource.DecimalSI)
	out[corev1.ResourceMemory] = *resource.NewQuantity(int64(size.RAMGiB)<<30, resource.BinarySI)
	if vm.GPU {
		out[gpuResource] = *resource.NewQuantity(int64(size.GPUs), resource.DecimalSI)
	}
	return out
}

// parseTaint reads key=value:Effect or key:Effect.
func parseTaint(text string) (corev1.Taint, bool) {
	head, effect, ok := strings.Cut(text, ":")
	if !ok {
		return corev1.Taint{}, false
	}
	key, value, _ := strings.Cut(head, "=")
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}, true
}
