// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/shared/statushold"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
	"kaito.sh/workspace-operator/internal/watch"
)

// The finalizer keeps a Workspace until its nodes are released.
// +kubebuilder:rbac:groups=kaito.sh,resources=workspaces,verbs=patch
// Owner references with blockOwnerDeletion need this where OwnerReferencesPermissionEnforcement is on.
// +kubebuilder:rbac:groups=kaito.sh,resources=workspaces/finalizers,verbs=update

// releaser deletes what a deleted Workspace has.
type releaser struct {
	client client.Client
	// live reads the API server itself.
	live   client.Reader
	kinds  placement.Kinds
	claims placement.Claims
	holds  *statushold.Holds[*kaitov1alpha1.WorkspaceStatus]
	// forget drops what the process remembers of a Workspace.
	forget func(*kaitov1alpha1.Workspace)
}

// release deletes the server, releases the nodes, and removes the finalizer when they are gone.
func (r releaser) release(ctx context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	if !controllerutil.ContainsFinalizer(w, kaitov1alpha1.Finalizer) {
		return flow.Stop(), nil
	}
	// What runs on the nodes goes first, so that no drained pod is created again. Owned objects are garbage collected.
	if err := r.deleteWork(ctx, s); err != nil {
		return flow.Stop(), err
	}
	claims, err := r.claims.List(ctx, r.client, client.MatchingFields{watch.ByOwnerUID: string(w.UID)})
	if err != nil {
		return flow.Stop(), err
	}
	for _, c := range claims {
		if c.Deleting {
			continue
		}
		log.FromContext(ctx).Info("Releasing a node", "claim", c.Name, "kind", c.Kind)
		if err := placement.Delete(ctx, r.client, c); err != nil {
			return flow.Stop(), err
		}
	}
	if len(claims) > 0 {
		return r.reportWaiting(ctx, s, claims)
	}
	// Nothing releases a node once the finalizer is gone: the API server itself must say that there is no claim.
	if exists, err := r.claims.Exists(ctx, r.live, w); err != nil || exists {
		return flow.Stop(), err
	}
	r.forget(w)
	_, err = patch.Finalizer(ctx, r.client, w, kaitov1alpha1.Finalizer, false)
	return flow.Stop(), client.IgnoreNotFound(err)
}

// reportWaiting writes which claims the deletion waits for. The write is held back for a moment, since a claim without
// a machine goes at once.
func (r releaser) reportWaiting(ctx context.Context, s *scope, claims []placement.Claim) (flow.Result, error) {
	w := s.workspace
	w.Status.State = kaitov1alpha1.StateDeleting
	conditions.MarkReconciling(w, kaitov1alpha1.ReasonDeleting, waitsFor(claims))
	if equality.Semantic.DeepEqual(s.stored, w.Status) {
		return flow.Stop(), nil
	}
	if wait := r.holds.Hold(w.UID, w.Status.DeepCopy(), true); wait > 0 {
		return flow.StopUntil(wait), nil
	}
	_, err := patch.Status(ctx, r.client, s.before, w)
	return flow.Stop(), err
}

// waitsFor names the claims that a deletion waits for, in an order that does not change.
func waitsFor(claims []placement.Claim) string {
	const shown = 3
	names := make([]string, len(claims))
	for i, c := range claims {
		names[i] = c.Kind + " " + c.Name
	}
	slices.Sort(names)
	if more := len(names) - shown; more > 0 {
		names = append(names[:shown], fmt.Sprintf("and %d more", more))
	}
	return "waits until its nodes are released: " + strings.Join(names, ", ")
}

// deleteWork deletes the server and the TuningJob.
func (r releaser) deleteWork(ctx context.Context, s *scope) error {
	var err error
	if s.found, err = serving.Find(ctx, r.client, s.workspace); err != nil {
		return err
	}
	if err := stopServing(ctx, r.client, s); err != nil {
		return err
	}
	served, err := r.kinds.Served(ctx, &tuningv1alpha1.TuningJob{})
	if err != nil || !served {
		return err
	}
	job, err := serving.Get(ctx, r.client, s.key(), &tuningv1alpha1.TuningJob{})
	if err != nil || job == nil || job.DeletionTimestamp != nil || !metav1.IsControlledBy(job, s.workspace) {
		return err
	}
	log.FromContext(ctx).Info("Deleting the TuningJob")
	return client.IgnoreNotFound(r.client.Delete(ctx, job,
		client.Preconditions{UID: &job.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground)))
}
