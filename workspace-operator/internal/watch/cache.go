// SPDX-License-Identifier: Apache-2.0

package watch

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/foreign"
	"kaito.sh/workspace-operator/internal/serving"
)

// CacheOptions keep in memory only what is read: of most kinds only the objects of Workspaces, and of each object only
// the fields that are read. The selector is the default and the exceptions are named, because naming a kind here
// requires its definition, and other operators' definitions may be absent.
func CacheOptions() cache.Options {
	everything := labels.Everything()
	return cache.Options{
		DefaultLabelSelector: ours(),
		DefaultTransform:     cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&kaitov1alpha1.Workspace{}:                  {Label: everything},
			&kaitov1alpha1.GPUBudget{}:                  {Label: everything},
			&corev1.Node{}:                              {Label: everything, Transform: trimNode},
			&corev1.ConfigMap{}:                         {Label: everything, Transform: trimMetadata},
			&apiextensionsv1.CustomResourceDefinition{}: {Label: everything, Transform: foreign.Trim},
			&corev1.Pod{}:                               {Transform: trimPod},
			&appsv1.Deployment{}:                        {Transform: trimWorkload},
			&appsv1.StatefulSet{}:                       {Transform: trimWorkload},
			&corev1.Service{}:                           {Transform: trimWorkload},
		},
	}
}

// ours selects objects with the label of a Workspace.
func ours() labels.Selector {
	exists, err := labels.NewRequirement(kaitov1alpha1.LabelWorkspaceName, selection.Exists, nil)
	if err != nil {
		panic(err) // the label is a constant and valid
	}
	return labels.NewSelector().Add(*exists)
}

func stripManagedFields(obj any) {
	if accessor, err := meta.Accessor(obj); err == nil {
		accessor.SetManagedFields(nil)
	}
}

// trimNode keeps all labels, since a selector may use any. Of the status it keeps readiness, allocatable GPUs and
// versions.
func trimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	stripManagedFields(n)
	n.Annotations = nil
	n.Spec = corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable, ProviderID: n.Spec.ProviderID, Taints: n.Spec.Taints}
	status := corev1.NodeStatus{
		NodeInfo: corev1.NodeSystemInfo{
			KubeletVersion:          n.Status.NodeInfo.KubeletVersion,
			ContainerRuntimeVersion: n.Status.NodeInfo.ContainerRuntimeVersion,
		},
	}
	for name, quantity := range n.Status.Allocatable {
		if isGPU(name) {
			if status.Allocatable == nil {
				status.Allocatable = corev1.ResourceList{}
			}
			status.Allocatable[name] = quantity
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			c.LastHeartbeatTime.Reset()
			status.Conditions = append(status.Conditions, c)
		}
	}
	n.Status = status
	return n, nil
}

func isGPU(name corev1.ResourceName) bool {
	const vendor = "nvidia.com/"
	return len(name) > len(vendor) && string(name[:len(vendor)]) == vendor
}

// trimMetadata keeps the name and the resource version.
func trimMetadata(obj any) (any, error) {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj, nil
	}
	m.ObjectMeta = metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}
	return m, nil
}

// trimPod keeps what serving.PodFailure reads.
func trimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	stripManagedFields(pod)
	pod.Annotations = nil
	pod.Spec = corev1.PodSpec{NodeName: pod.Spec.NodeName}
	pod.Status = corev1.PodStatus{
		Phase: pod.Status.Phase, Reason: pod.Status.Reason, Message: pod.Status.Message, Conditions: pod.Status.Conditions,
		InitContainerStatuses: pod.Status.InitContainerStatuses, ContainerStatuses: pod.Status.ContainerStatuses,
	}
	return pod, nil
}

// trimWorkload drops the pod template: a hash tells what was applied, and a digest what other clients changed since.
func trimWorkload(obj any) (any, error) {
	switch w := obj.(type) {
	case *appsv1.Deployment:
		serving.DigestForeignFields(w)
		w.Spec.Template = corev1.PodTemplateSpec{}
	case *appsv1.StatefulSet:
		serving.DigestForeignFields(w)
		w.Spec.Template = corev1.PodTemplateSpec{}
	case *corev1.Service:
		serving.DigestForeignFields(w)
	}
	return obj, nil
}

// Trim removes from a written object what the caches remove from a read one.
func Trim(obj client.Object) {
	if _, err := trimWorkload(obj); err == nil {
		stripManagedFields(obj)
	}
}
