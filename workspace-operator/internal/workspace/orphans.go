// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/watch"
)

// Workspaces are read past the cache before a claim is deleted as theirs.
// +kubebuilder:rbac:groups=kaito.sh,resources=workspaces,verbs=get;list;watch

// orphanCollector deletes claims whose Workspace does not exist any more, for instance because its finalizer was
// removed by hand.
type orphanCollector struct {
	client client.Client
	live   client.Reader
	claims placement.Claims
}

// collect deletes the orphans of a Workspace's name. A claim is a machine, so the API server is asked first.
func (o orphanCollector) collect(ctx context.Context, name types.NamespacedName) error {
	claims, err := o.claims.List(ctx, o.client, client.MatchingFields{watch.ByOwner: name.String()})
	if err != nil {
		return err
	}
	var orphans []placement.Claim
	for _, c := range claims {
		if !c.Deleting {
			orphans = append(orphans, c)
		}
	}
	if len(orphans) == 0 {
		return nil
	}
	live := &kaitov1alpha1.Workspace{}
	if err := o.live.Get(ctx, name, live); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("looking for the Workspace of a claim: %w", err)
	} else if apierrors.IsNotFound(err) {
		live.UID = ""
	}
	for _, c := range orphans {
		if live.UID != "" && c.Object.GetLabels()[kaitov1alpha1.LabelWorkspaceUID] == string(live.UID) {
			continue
		}
		log.FromContext(ctx).Info("Releasing a node whose Workspace does not exist", "claim", c.Name, "kind", c.Kind)
		if err := placement.Delete(ctx, o.client, c); err != nil {
			return err
		}
	}
	return nil
}
