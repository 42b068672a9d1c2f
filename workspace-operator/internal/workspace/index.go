// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

const (
	// indexWorkerNodes finds the Workspaces that use a node, indexConfigs those that name a ConfigMap (as namespace/name).
	indexWorkerNodes = "status.workerNodes"
	indexConfigs     = "configs"
	// indexOwnerUID finds the claims and pods that carry a Workspace's UID, indexOwner the claims that carry its namespace
	// and name.
	indexOwnerUID = "owner.uid"
	indexOwner    = "owner"
	// indexOwnerNamespace finds the claims of all Workspaces of a namespace.
	indexOwnerNamespace = "owner.namespace"
)

func index(ctx context.Context, indexer client.FieldIndexer) error {
	add := func(obj client.Object, indexes map[string]client.IndexerFunc) error {
		for field, values := range indexes {
			if err := indexer.IndexField(ctx, obj, field, values); err != nil {
				return fmt.Errorf("indexing %T by %s: %w", obj, field, err)
			}
		}
		return nil
	}
	if err := add(&kaitov1alpha1.Workspace{}, map[string]client.IndexerFunc{
		indexWorkerNodes: func(o client.Object) []string { return asWorkspace(o).Status.WorkerNodes },
		indexConfigs:     func(o client.Object) []string { return configKeys(asWorkspace(o)) },
	}); err != nil {
		return err
	}
	return add(&corev1.Pod{}, ownerIndexes())
}

// ownerIndexes are of what belongs to a Workspace by its labels: what one asks for must not take longer the more others
// there are.
func ownerIndexes() map[string]client.IndexerFunc {
	return map[string]client.IndexerFunc{
		indexOwnerUID: func(o client.Object) []string {
			if uid := o.GetLabels()[kaitov1alpha1.LabelWorkspaceUID]; uid != "" {
				return []string{uid}
			}
			return nil
		},
		indexOwner: func(o client.Object) []string {
			if labels := o.GetLabels(); labels[kaitov1alpha1.LabelWorkspaceName] != "" {
				return []string{labels[kaitov1alpha1.LabelWorkspaceNamespace] + "/" + labels[kaitov1alpha1.LabelWorkspaceName]}
			}
			return nil
		},
	}
}

// claimIndexes are those of claims, which are in no namespace.
func claimIndexes() map[string]client.IndexerFunc {
	indexes := ownerIndexes()
	indexes[indexOwnerNamespace] = func(o client.Object) []string {
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
