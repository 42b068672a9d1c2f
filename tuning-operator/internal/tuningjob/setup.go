// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
)

// controllerName is the name of the controller in logs and metrics.
const controllerName = "tuningjob"

// workers is the number of TuningJobs that are reconciled at the same time.
const workers = 4

// CacheOptions limit the cache to objects that this operator made: a cluster has many other pods.
func CacheOptions() cache.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{job.LabelManaged: tuningv1alpha1.FieldManager})}
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&batchv1.Job{}: ours, &corev1.Pod{}: ours, &corev1.Service{}: ours, &corev1.PersistentVolumeClaim{}: ours,
	}}
}

// configIndex indexes TuningJobs by the name of their ConfigMap.
const configIndex = "spec.config"

// SetupWithManager adds the controller and its scraper to the manager.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	if err := mgr.Add(r.scraper); err != nil {
		return fmt.Errorf("adding the scraper: %w", err)
	}
	err := mgr.GetFieldIndexer().IndexField(ctx, &tuningv1alpha1.TuningJob{}, configIndex, func(o client.Object) []string {
		if name := o.(*tuningv1alpha1.TuningJob).Spec.Config; name != "" {
			return []string{name}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing TuningJobs by their ConfigMap: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&tuningv1alpha1.TuningJob{}).
		Owns(&batchv1.Job{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.PersistentVolumeClaim{}).
		Watches(&corev1.Pod{}, r.podHandler()).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.ofConfigMap)).
		WatchesRawSource(r.progress.source()).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}
