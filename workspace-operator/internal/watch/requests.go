// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/workspace-operator/internal/placement"
)

// ByLabels enqueues the Workspace whose labels an object carries.
func ByLabels() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return requestsByLabels(o)
	})
}

func requestsByLabels(o client.Object) []reconcile.Request {
	labels := o.GetLabels()
	name, namespace := labels[kaitov1alpha1.LabelWorkspaceName], labels[kaitov1alpha1.LabelWorkspaceNamespace]
	if name == "" || namespace == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}}
}

// Requests finds the Workspaces that an object concerns without naming them. Client reads caches.
type Requests struct{ Client client.Reader }

// OfNode returns the Workspace that a node was made for; otherwise the Workspaces that use the node or wait for one.
func (r Requests) OfNode(ctx context.Context, o client.Object) []reconcile.Request {
	if requests := requestsByLabels(o); requests != nil {
		return requests
	}
	return r.list(ctx, func(w *kaitov1alpha1.Workspace) bool {
		return slices.Contains(w.Status.WorkerNodes, o.GetName()) || waitsForNode(w)
	})
}

// Waiting returns the Workspaces that wait for a node which another Workspace may have released.
func (r Requests) Waiting(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.list(ctx, waitsForNode)
}

// All returns all Workspaces.
func (r Requests) All(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.list(ctx, func(*kaitov1alpha1.Workspace) bool { return true })
}

// OfConfigMap returns the Workspaces that name a ConfigMap.
func (r Requests) OfConfigMap(ctx context.Context, o client.Object) []reconcile.Request {
	return r.list(ctx, nil, client.MatchingFields{ByConfig: o.GetNamespace() + "/" + o.GetName()})
}

// waitsForNode returns whether a Workspace lacks nodes and may use existing ones.
func waitsForNode(w *kaitov1alpha1.Workspace) bool {
	return placement.UsesExisting(w) && !conditions.IsTrue(w, kaitov1alpha1.ConditionResourceReady)
}

func (r Requests) list(
	ctx context.Context, wanted func(*kaitov1alpha1.Workspace) bool, by ...client.ListOption,
) []reconcile.Request {
	list := &kaitov1alpha1.WorkspaceList{}
	if err := r.Client.List(ctx, list, by...); err != nil {
		return nil // the cache has stopped, as has the operator
	}
	var out []reconcile.Request
	for i := range list.Items {
		if wanted == nil || wanted(&list.Items[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}
