// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/test/cluster"
)

// gpuResource is the extended resource of NVIDIA's device plugin.
const gpuResource = "nvidia.com/gpu"

// kwok creates Nodes that KWOK keeps alive.
type kwok struct {
	nodes   kubernetes.Interface
	catalog *catalog.Catalog
}

// NewKWOK returns a node side that turns machines into simulated Nodes of the client's cluster.
func NewKWOK(client kubernetes.Interface) NodeSide {
	loaded, err := catalog.Load()
	if err != nil {
		panic(fmt.Sprintf("the embedded catalogue does not load: %v", err)) // the catalogue's own tests check it
	}
	return &kwok{nodes: client, catalog: loaded}
}

// Join creates the Node with the content that a kubelet would report, and its status with the status subresource. It
// updates an existing Node.
func (k *kwok) Join(ctx context.Context, vm VM) error {
	want := k.node(vm)
	_, err := k.nodes.CoreV1().Nodes().Create(ctx, want, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating Node %s: %w", vm.Name, err)
	}
	// KWOK writes to a new Node at once.
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error { return k.change(ctx, want) })
	if err != nil {
		return fmt.Errorf("writing Node %s: %w", vm.Name, err)
	}
	return nil
}

// change makes KWOK keep an existing Node Ready or not Ready, and sets its resources.
func (k *kwok) change(ctx context.Context, want *corev1.Node) error {
	node, err := k.nodes.CoreV1().Nodes().Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	message, notReady := want.Annotations[cluster.NotReadyAnnotation]
	if node.Annotations[cluster.NotReadyAnnotation] != message {
		if notReady {
			metav1.SetMetaDataAnnotation(&node.ObjectMeta, cluster.NotReadyAnnotation, message)
		} else {
			delete(node.Annotations, cluster.NotReadyAnnotation)
		}
		if node, err = k.nodes.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	node.Status.Capacity, node.Status.Allocatable = want.Status.Capacity, want.Status.Allocatable
	node.Status.Addresses = want.Status.Addresses
	if len(node.Status.Conditions) == 0 {
		// KWOK makes a Ready Node not Ready. A Node that was never Ready needs the condition here.
		node.Status.Conditions = want.Status.Conditions
	}
	_, err = k.nodes.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// runtimeDown is why a kubelet is not ready because of a fault.
const runtimeDown = "container runtime is down"

// machineGone is why the kubelet of a deleted machine is not ready.
const machineGone = "the machine is gone"

// Leave deletes the Node, like AKS's cloud node manager when the machine is gone. A Node with finalizers is not Ready,
// because no kubelet reports.
func (k *kwok) Leave(ctx context.Context, vm VM) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := k.nodes.CoreV1().Nodes().Get(ctx, vm.Name, metav1.GetOptions{})
		if err != nil || len(node.Finalizers) == 0 || node.Annotations[cluster.NotReadyAnnotation] != "" {
			return err
		}
		metav1.SetMetaDataAnnotation(&node.ObjectMeta, cluster.NotReadyAnnotation, machineGone)
		_, err = k.nodes.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("marking Node %s: %w", vm.Name, err)
	}
	err = k.nodes.CoreV1().Nodes().Delete(ctx, vm.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Node %s: %w", vm.Name, err)
	}
	return nil
}

func (k *kwok) node(vm VM) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        vm.Name,
			Labels:      vm.NodeLabels(k.gpus(vm.Size)),
			Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue},
		},
		Spec: corev1.NodeSpec{ProviderID: vm.ProviderID},
	}
	if vm.NotReady {
		node.Annotations[cluster.NotReadyAnnotation] = runtimeDown
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: runtimeDown,
			LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}}
	}
	node.Spec.Taints = vm.NodeTaints()
	node.Status.Capacity = k.capacity(vm)
	node.Status.Allocatable = allocatable(node.Status.Capacity)
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "127.0.0.1"},
		{Type: corev1.NodeHostName, Address: vm.Name},
	}
	return node
}

// gpus returns the number of GPUs of a size; 0 for sizes outside the catalogue.
func (k *kwok) gpus(name string) int {
	size, err := k.catalog.Size(name)
	if err != nil {
		return 0
	}
	return size.GPUs
}

// capacity returns what the kubelet of a size reports. Sizes outside the catalogue have 8 vCPUs and 64 GiB.
func (k *kwok) capacity(vm VM) corev1.ResourceList {
	vcpus, memory, gpus := 8, 64, 0
	if size, err := k.catalog.Size(vm.Size); err == nil {
		vcpus, memory, gpus = size.VCPUs, size.RAMGiB, size.GPUs
	}
	out := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(vcpus), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(int64(memory)<<30, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
	}
	if vm.GPU && gpus > 0 {
		out[gpuResource] = *resource.NewQuantity(int64(gpus), resource.DecimalSI)
	}
	return out
}

// maxPods is AKS's default with its overlay network.
const maxPods = 110

// AKS reserves (https://learn.microsoft.com/azure/aks/node-resource-reservations) 20 MB of memory for each pod and 50
// MB, and the kubelet evicts below 100 MiB. It reserves millicores of CPU by the number of cores.
const reservedMemory = (20*maxPods+50)*1_000_000 + 100<<20

func reservedCPU(vcpus int64) int64 {
	for _, step := range []struct{ cores, milli int64 }{{1, 60}, {2, 100}, {4, 140}, {8, 180}, {16, 260}, {32, 420}} {
		if vcpus <= step.cores {
			return step.milli
		}
	}
	return 740
}

// allocatable returns the resources that are left for pods.
func allocatable(capacity corev1.ResourceList) corev1.ResourceList {
	out := capacity.DeepCopy()
	cpu := capacity[corev1.ResourceCPU]
	out[corev1.ResourceCPU] = *resource.NewMilliQuantity(cpu.MilliValue()-reservedCPU(cpu.Value()), resource.DecimalSI)
	memory := capacity[corev1.ResourceMemory]
	out[corev1.ResourceMemory] = *resource.NewQuantity(memory.Value()-reservedMemory, resource.BinarySI)
	return out
}
