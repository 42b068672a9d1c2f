// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/tuning-operator/internal/job"
)

// defaultClass is the annotation of the storage class that volume claims without a class get.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// chooseCheckpoint decides where checkpoints are stored when the TuningJob names no volume.
func (r *Reconciler) chooseCheckpoint(ctx context.Context, s *scope) (flow.Result, error) {
	if !job.OwnClaim(s.tj) || r.options.CheckpointClass == ClassNone {
		return flow.Continue(), nil
	}
	if r.options.CheckpointClass != "" {
		s.claim = job.Claim{Make: true, Class: r.options.CheckpointClass}
		return flow.Continue(), nil
	}
	var classes storagev1.StorageClassList
	if err := r.live.List(ctx, &classes); err != nil {
		return flow.Stop(), fmt.Errorf("listing storage classes: %w", err)
	}
	for _, c := range classes.Items {
		if c.Annotations[defaultClass] == "true" {
			s.claim = job.Claim{Make: true}
		}
	}
	return flow.Continue(), nil
}

// deleteCheckpoint deletes the volume claim for checkpoints after success. The cluster keeps the volume while a pod
// that mounted it exists; spec.ttlSecondsAfterFinished limits that time.
func (r *Reconciler) deleteCheckpoint(ctx context.Context, tj *tuningv1alpha1.TuningJob) error {
	if !job.OwnClaim(tj) {
		return nil
	}
	pvc := &corev1.PersistentVolumeClaim{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: tj.Namespace, Name: job.ClaimName(tj)}, pvc)
	if err != nil || !metav1.IsControlledBy(pvc, tj) || !pvc.DeletionTimestamp.IsZero() {
		return client.IgnoreNotFound(err)
	}
	if err := r.client.Delete(ctx, pvc, client.Preconditions{UID: &pvc.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting volume claim %s: %w", pvc.Name, err)
	}
	return nil
}
