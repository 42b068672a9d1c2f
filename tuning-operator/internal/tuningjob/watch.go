// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// progressEvents start a pass for TuningJobs whose pods reported new progress.
type progressEvents chan event.TypedGenericEvent[types.NamespacedName]

// maxProgressEvents is more than the number of TuningJobs that train at the same time.
const maxProgressEvents = 1024

func newProgressEvents() progressEvents { return make(progressEvents, maxProgressEvents) }

// send never blocks. An event that does not fit is dropped: the next round of the scraper sends another one.
func (e progressEvents) send(key types.NamespacedName) {
	select {
	case e <- event.TypedGenericEvent[types.NamespacedName]{Object: key}:
	default:
	}
}

func (e progressEvents) source() source.Source {
	return source.Channel(e, handler.TypedFuncs[types.NamespacedName, reconcile.Request]{
		GenericFunc: func(_ context.Context, e event.TypedGenericEvent[types.NamespacedName], q queue) {
			q.Add(reconcile.Request{NamespacedName: e.Object})
		},
	})
}

// ofConfigMap returns the TuningJobs whose spec.config names the ConfigMap.
func (r *Reconciler) ofConfigMap(ctx context.Context, o client.Object) []reconcile.Request {
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

// podHandler enqueues the TuningJob of a pod, and keeps deleted pods that failed until a pass has recorded them.
func (r *Reconciler) podHandler() handler.EventHandler {
	enqueue := func(o client.Object, q queue) {
		if key, ok := tuningJobOf(o); ok {
			q.Add(reconcile.Request{NamespacedName: key})
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { enqueue(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { enqueue(e.ObjectNew, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			pod, ok := e.Object.(*corev1.Pod)
			if key, mine := tuningJobOf(e.Object); ok && mine && pod.Status.Phase == corev1.PodFailed {
				r.departed.add(key, pod)
			}
			enqueue(e.Object, q)
		},
	}
}

// tuningJobOf returns the TuningJob that a pod belongs to.
func tuningJobOf(o client.Object) (types.NamespacedName, bool) {
	name := o.GetAnnotations()[job.AnnotationTuningJob]
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: name}, name != "" && metav1.GetControllerOf(o) != nil
}
