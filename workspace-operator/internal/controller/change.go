package controller

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
)

// nodeChanged: a node's heartbeat is an update every few seconds, and means nothing.
func nodeChanged(before, after client.Object) bool {
	a, ok := before.(*corev1.Node)
	b, ok2 := after.(*corev1.Node)
	if !ok || !ok2 {
		return true
	}
	return !equality.Semantic.DeepEqual(a.Labels, b.Labels) || !equality.Semantic.DeepEqual(a.Status, b.Status) ||
		a.Spec.Unschedulable != b.Spec.Unschedulable || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil)
}

// podChanged: only its status and its end are read.
func podChanged(before, after client.Object) bool {
	a, ok := before.(*corev1.Pod)
	b, ok2 := after.(*corev1.Pod)
	if !ok || !ok2 {
		return true
	}
	return !equality.Semantic.DeepEqual(a.Status, b.Status) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil)
}

func usesNode(w *kaitov1alpha1.Workspace, name string) bool {
	return slices.Contains(w.Status.WorkerNodes, name)
}

func resourceReady(w *kaitov1alpha1.Workspace) bool {
	return conditions.IsTrue(w, kaitov1alpha1.ConditionResourceReady)
}
