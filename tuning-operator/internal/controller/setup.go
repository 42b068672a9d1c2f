// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/scrape"
)

// Name of the controller, and of who its events are from.
const Name = "tuningjob"

// CacheOptions keep from the cache what is not this operator's: a cluster's pods are many.
func CacheOptions() cache.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{job.LabelManaged: tuningv1alpha1.FieldManager})}
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&batchv1.Job{}: ours, &corev1.Pod{}: ours, &corev1.Service{}: ours, &corev1.PersistentVolumeClaim{}: ours,
	}}
}

// configIndex finds the TuningJobs that a ConfigMap configures.
const configIndex = "spec.config"

// Setup adds the controller and its scraper to a manager.
func Setup(
	ctx context.Context, mgr ctrl.Manager, clk clock.WithTicker, metrics *Metrics, scrapeInterval time.Duration,
	options Options,
) error {
	cat, err := catalog.Load()
	if err != nil {
		return err
	}
	news := make(chan event.TypedGenericEvent[types.NamespacedName], 1024)
	scraper := scrape.New(clk, scrapeInterval, func(key types.NamespacedName) {
		select {
		case news <- event.TypedGenericEvent[types.NamespacedName]{Object: key}:
		default: // the next round brings it again as soon as it differs; a pass looks at the newest anyway
		}
	})
	if err := mgr.Add(scraper); err != nil {
		return fmt.Errorf("adding the scraper: %w", err)
	}
	err = mgr.GetFieldIndexer().IndexField(ctx, &tuningv1alpha1.TuningJob{}, configIndex, func(o client.Object) []string {
		if name := o.(*tuningv1alpha1.TuningJob).Spec.Config; name != "" {
			return []string{name}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing TuningJobs by their ConfigMap: %w", err)
	}
	r := New(
		mgr.GetClient(), mgr.GetAPIReader(), cat, mgr.GetEventRecorder("tuning-operator"), clk, scraper, metrics, options,
	)
	return ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&tuningv1alpha1.TuningJob{}).
		Owns(&batchv1.Job{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.PersistentVolumeClaim{}).
		Watches(&corev1.Pod{}, r.pods()).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.configured), builder.WithPredicates()).
		WatchesRawSource(source.Channel(news, handler.TypedFuncs[types.NamespacedName, reconcile.Request]{
			GenericFunc: func(_ context.Context, e event.TypedGenericEvent[types.NamespacedName], q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				q.Add(reconcile.Request{NamespacedName: e.Object})
			},
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(r)
}

// configured lists the TuningJobs that wait for a ConfigMap, or name it.
func (r *Reconciler) configured(ctx context.Context, o client.Object) []reconcile.Request {
	var list tuningv1alpha1.TuningJobList
	if err := r.client.List(
		ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{configIndex: o.GetName()},
	); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the TuningJobs of a ConfigMap", "configMap", client.ObjectKeyFromObject(o))
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// pods maps pods to their TuningJobs, and keeps those that went away until a pass has looked at how they ended.
func (r *Reconciler) pods() handler.EventHandler {
	enqueue := func(o client.Object, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if key, ok := owner(o); ok {
			q.Add(reconcile.Request{NamespacedName: key})
		}
	}
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { enqueue(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { enqueue(e.ObjectNew, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			pod, ok := e.Object.(*corev1.Pod)
			if key, mine := owner(e.Object); ok && mine && pod.Status.Phase == corev1.PodFailed {
				r.departed.add(key, pod)
			}
			enqueue(e.Object, q)
		},
	}
}

func owner(o client.Object) (types.NamespacedName, bool) {
	name := o.GetAnnotations()[job.AnnotationTuningJob]
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: name}, name != "" && metav1.GetControllerOf(o) != nil
}
