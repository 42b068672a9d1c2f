// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/placement"
)

// release ends what runs, gives the nodes back, and lets the Workspace go when they are gone.
func (r *Reconciler) release(ctx context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	if !controllerutil.ContainsFinalizer(w, kaitov1alpha1.Finalizer) {
		return flow.Stop(), nil
	}
	// First what runs on the nodes, so that nothing is drained that would be made again. The rest is owned, and collected
	// afterwards.
	if err := r.endWork(ctx, s); err != nil {
		return flow.Stop(), err
	}
	claims, err := r.listClaims(ctx, s)
	if err != nil {
		return flow.Stop(), err
	}
	for _, c := range claims {
		if c.Deleting {
			continue
		}
		log.FromContext(ctx).Info("Releasing a node", "claim", c.Name, "kind", c.Kind)
		if err := r.deleteClaim(ctx, c); err != nil {
			return flow.Stop(), err
		}
	}
	if len(claims) > 0 {
		w.Status.State = kaitov1alpha1.StateDeleting
		conditions.MarkReconciling(w, kaitov1alpha1.ReasonDeleting, waitsFor(claims))
		_, err := patch.Status(ctx, r.client, s.before, w)
		return flow.Stop(), err
	}
	// Once the finalizer has gone nobody releases a node any more: the API server itself must say that there is none.
	if left, err := r.leftClaims(ctx, s); err != nil || left > 0 {
		return flow.Stop(), err
	}
	r.plans.forget(w.UID)
	r.holds.forget(w.UID)
	r.reservations.keep(w.UID, nil)
	r.drift.forget(w.UID)
	r.forgetRoom(ctx, client.ObjectKeyFromObject(w))
	_, err = patch.Finalizer(ctx, r.client, w, kaitov1alpha1.Finalizer, false)
	return flow.Stop(), client.IgnoreNotFound(err)
}

// waitsFor names what a deletion waits for, so that somebody can look at it, in an order that does not change by
// itself.
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

// endWork deletes the workload and the TuningJob.
func (r *Reconciler) endWork(ctx context.Context, s *scope) error {
	if err := r.findServer(ctx, s); err != nil {
		return err
	}
	if err := r.stopServing(ctx, s); err != nil {
		return err
	}
	served, err := r.foreign.Served(ctx, &tuningv1alpha1.TuningJob{})
	if err != nil || !served {
		return err
	}
	job, err := get(ctx, r.client, s.workspace, &tuningv1alpha1.TuningJob{})
	if err != nil || job == nil || job.DeletionTimestamp != nil || !metav1.IsControlledBy(job, s.workspace) {
		return err
	}
	log.FromContext(ctx).Info("Deleting the TuningJob")
	return client.IgnoreNotFound(
		r.client.Delete(
			ctx, job, client.Preconditions{UID: &job.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground),
		),
	)
}

// leftClaims counts the claims that the API server still has, when the caches have none.
func (r *Reconciler) leftClaims(ctx context.Context, s *scope) (int, error) {
	n := 0
	for _, api := range r.claimAPIs() {
		served, err := r.foreign.Served(ctx, api.Object())
		if err != nil {
			return 0, err
		}
		if !served {
			continue
		}
		claims, err := claimsOf(
			ctx, r.live, api, client.MatchingLabels{kaitov1alpha1.LabelWorkspaceUID: string(s.workspace.UID)},
		)
		if err != nil {
			return 0, err
		}
		n += len(claims)
	}
	return n, nil
}

// collect deletes claims whose Workspace is no more: a finalizer that somebody removed by force leaves such behind. The
// API server is asked first, since what is deleted here is a machine.
func (r *Reconciler) collect(ctx context.Context, name types.NamespacedName) error {
	var orphans []placement.Claim
	for _, api := range r.claimAPIs() {
		served, err := r.foreign.Served(ctx, api.Object())
		if err != nil {
			return err
		}
		if !served {
			continue
		}
		claims, err := claimsOf(ctx, r.client, api, client.MatchingFields{indexOwner: name.String()})
		if err != nil {
			return err
		}
		for _, c := range claims {
			if !c.Deleting {
				orphans = append(orphans, c)
			}
		}
	}
	if len(orphans) == 0 {
		return nil
	}
	live := &kaitov1alpha1.Workspace{}
	if err := r.live.Get(ctx, name, live); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("looking for the Workspace of a claim: %w", err)
	} else if apierrors.IsNotFound(err) {
		live.UID = ""
	}
	for _, c := range orphans {
		if live.UID != "" && c.Object.GetLabels()[kaitov1alpha1.LabelWorkspaceUID] == string(live.UID) {
			continue
		}
		log.FromContext(ctx).Info("Releasing a node whose Workspace is no more", "claim", c.Name, "kind", c.Kind)
		if err := r.deleteClaim(ctx, c); err != nil {
			return err
		}
	}
	return nil
}
