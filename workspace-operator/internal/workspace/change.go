// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
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

// nodeNews passes what can change what a Workspace has. A node that was made for one and that cannot be used yet is no
// more than a node that is not there.
func nodeNews() predicate.Predicate {
	p := changed(nodeChanged)
	p.CreateFunc = func(e event.CreateEvent) bool {
		n, ok := e.Object.(*corev1.Node)
		return !ok || n.Labels[kaitov1alpha1.LabelWorkspaceUID] == "" || placement.Unusable(n, 1) == ""
	}
	return p
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

// freesNodes passes what gives back nodes that others may wait for.
func freesNodes() predicate.Predicate {
	used := func(o client.Object) []string { return asWorkspace(o).Status.WorkerNodes }
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		DeleteFunc:  func(e event.DeleteEvent) bool { return len(used(e.Object)) > 0 },
		UpdateFunc: func(e event.UpdateEvent) bool {
			now := used(e.ObjectNew)
			return slices.ContainsFunc(used(e.ObjectOld), func(name string) bool { return !slices.Contains(now, name) })
		},
	}
}
