// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Fields of indexes.
const (
	// ByWorkerNode finds the Workspaces that use a node, by the node's name.
	ByWorkerNode = "status.workerNodes"
	// ByConfig finds the Workspaces that name a ConfigMap, by namespace/name.
	ByConfig = "configs"
	// ByOwnerUID finds the claims and pods of a Workspace by its UID.
	ByOwnerUID = "owner.uid"
	// ByOwner finds the claims of a Workspace by namespace/name.
	ByOwner = "owner"
	// ByOwnerNamespace finds the claims of all Workspaces of a namespace.
	ByOwnerNamespace = "owner.namespace"
)

// Index adds the indexes of Workspaces and pods.
func Index(ctx context.Context, indexer client.FieldIndexer) error {
	add := func(obj client.Object, indexes map[string]client.IndexerFunc) error {
		for field, values := range indexes {
			if err := indexer.IndexField(ctx, obj, field, values); err != nil {
				return fmt.Errorf("indexing %T by %s: %w", obj, field, err)
			}
		}
		return nil
	}
	if err := add(&kaitov1alpha1.Workspace{}, map[string]client.IndexerFunc{
		ByWorkerNode: func(o client.Object) []string { return asWorkspace(o).Status.WorkerNodes },
		ByConfig:     func(o client.Object) []string { return configsOf(asWorkspace(o)) },
	}); err != nil {
		return err
	}
	return add(&corev1.Pod{}, ownerIndexes())
}

// ownerIndexes returns the indexes by the labels of a Workspace, so that a lookup takes the same time however many
// other Workspaces there are.
func ownerIndexes() map[string]client.IndexerFunc {
	return map[string]client.IndexerFunc{
		ByOwnerUID: func(o client.Object) []string {
			if uid := o.GetLabels()[kaitov1alpha1.LabelWorkspaceUID]; uid != "" {
				return []string{uid}
			}
			return nil
		},
		ByOwner: func(o client.Object) []string {
			if labels := o.GetLabels(); labels[kaitov1alpha1.LabelWorkspaceName] != "" {
				return []string{labels[kaitov1alpha1.LabelWorkspaceNamespace] + "/" + labels[kaitov1alpha1.LabelWorkspaceName]}
			}
			return nil
		},
	}
}

// ClaimIndexes returns the indexes of claims, which are cluster-scoped.
func ClaimIndexes() map[string]client.IndexerFunc {
	indexes := ownerIndexes()
	indexes[ByOwnerNamespace] = func(o client.Object) []string {
		if namespace := o.GetLabels()[kaitov1alpha1.LabelWorkspaceNamespace]; namespace != "" {
			return []string{namespace}
		}
		return nil
	}
	return indexes
}

func asWorkspace(o client.Object) *kaitov1alpha1.Workspace {
	if w, ok := o.(*kaitov1alpha1.Workspace); ok {
		return w
	}
	return &kaitov1alpha1.Workspace{}
}

// configsOf returns namespace/name of the ConfigMaps that a Workspace names.
func configsOf(w *kaitov1alpha1.Workspace) []string {
	var out []string
	if w.Inference != nil && w.Inference.Config != "" {
		out = append(out, w.Namespace+"/"+w.Inference.Config)
	}
	if w.Tuning != nil && w.Tuning.Config != "" {
		out = append(out, w.Namespace+"/"+w.Tuning.Config)
	}
	return out
}
