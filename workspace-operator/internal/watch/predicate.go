// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/recent"
	"kaito.sh/workspace-operator/internal/placement"
)

// nodeChanged returns false for a node's heartbeat, which is an update every few seconds.
func nodeChanged(before, after client.Object) bool {
	a, ok := before.(*corev1.Node)
	b, ok2 := after.(*corev1.Node)
	if !ok || !ok2 {
		return true
	}
	return !equality.Semantic.DeepEqual(a.Labels, b.Labels) || !equality.Semantic.DeepEqual(a.Status, b.Status) ||
		a.Spec.Unschedulable != b.Spec.Unschedulable || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil)
}

// UsefulNode passes events of nodes that can change what a Workspace has. A new node that was made for a Workspace and
// is not usable yet is ignored.
func UsefulNode() predicate.Predicate {
	p := Changed(nodeChanged)
	p.CreateFunc = func(e event.CreateEvent) bool {
		n, ok := e.Object.(*corev1.Node)
		return !ok || n.Labels[kaitov1alpha1.LabelWorkspaceUID] == "" || placement.Unusable(n, 1) == ""
	}
	return p
}

// PodChanged returns whether the status or the deletion of a pod has changed.
func PodChanged(before, after client.Object) bool {
	a, ok := before.(*corev1.Pod)
	b, ok2 := after.(*corev1.Pod)
	if !ok || !ok2 {
		return true
	}
	return !equality.Semantic.DeepEqual(a.Status, b.Status) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil)
}

// FreesNodes passes events of Workspaces that release nodes which other Workspaces may wait for.
func FreesNodes() predicate.Predicate {
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

// Changed passes the updates for which differs returns true.
func Changed(differs func(before, after client.Object) bool) predicate.Funcs {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return differs(e.ObjectOld, e.ObjectNew) }}
}

// SpecChanged returns whether the generation has changed.
func SpecChanged(before, after client.Object) bool {
	return before.GetGeneration() != after.GetGeneration()
}

// NotOwnWrite drops events that show only what a pass has just written itself. It also tells the client of objects that
// are gone.
func NotOwnWrite(c *recent.Client) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !c.Shown(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool { return !c.Shown(e.ObjectNew) },
		DeleteFunc: func(e event.DeleteEvent) bool {
			c.Forget(e.Object)
			return true
		},
	}
}
