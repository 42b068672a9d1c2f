// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/workspace-operator/internal/foreign"
	"kaito.sh/workspace-operator/internal/recent"
	"kaito.sh/workspace-operator/internal/serving"
)

// controllerName is in logs, metrics and events.
const controllerName = "workspace"

// Setup adds the Workspace controller to a manager, and its metrics to a registry.
func Setup(
	ctx context.Context, mgr ctrl.Manager, registry prometheus.Registerer, options Options, planner Planner,
	clk clock.PassiveClock,
) error {
	if err := index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	c := recent.New(mgr.GetClient(), clk, claimIndexes(), trimWritten)
	w := watches{client: c}
	news := foreignToUs(c)
	room, roomEvents := roomAndEvents()
	kinds, err := foreign.New(
		mgr.GetCache(),
		mgr.GetScheme(),
		foreign.Kind{
			Object:     &karpenterv1alpha5.Machine{},
			Resource:   "machines",
			Handler:    first(ofPlace, room.ofClaims(byLabels())),
			Predicates: []predicate.Predicate{news},
			Indexes:    claimIndexes(),
			Gone:       c.ForgetKind,
		},
		foreign.Kind{
			Object:     &karpv1.NodeClaim{},
			Resource:   "nodeclaims",
			Handler:    first(ofPlace, room.ofClaims(byLabels())),
			Predicates: []predicate.Predicate{news},
			Indexes:    claimIndexes(),
			Gone:       c.ForgetKind,
		},
		foreign.Kind{
			Object:     &tuningv1alpha1.TuningJob{},
			Resource:   "tuningjobs",
			Predicates: []predicate.Predicate{news},
			Gone:       c.ForgetKind,
			Handler: first(
				ofPlace,
				handler.EnqueueRequestForOwner(
					mgr.GetScheme(), mgr.GetRESTMapper(), &kaitov1alpha1.Workspace{}, handler.OnlyControllerOwner(),
				),
			),
		},
		foreign.Kind{
			Object:     poolMetadata(),
			Resource:   serving.PoolResource,
			Predicates: []predicate.Predicate{news},
			Gone:       c.ForgetKind,
			Handler:    first(ofServer, byLabels()),
		},
		foreign.Kind{
			Object:     &kaitov1alpha1.GPUBudget{},
			Resource:   "gpubudgets",
			Predicates: []predicate.Predicate{news, changed(specChanged)},
			Handler:    room.ofBudgets(),
			Gone: func(o client.Object) {
				c.ForgetKind(o)
				room.forget()
			},
		},
	)
	if err != nil {
		return err
	}
	metrics, err := NewMetrics(registry, mgr.GetCache(), clk)
	if err != nil {
		return err
	}
	models, learned, err := lookups(mgr, options, planner, clk)
	if err != nil {
		return err
	}
	r, err := New(Config{
		Client:  c,
		Live:    mgr.GetAPIReader(),
		Foreign: kinds,
		Secrets: DryRunSecrets{Client: mgr.GetClient()},
		Planner: planner,
		Models:  models,
		Events:  mgr.GetEventRecorder(controllerName),
		Clock:   clk,
		Metrics: metrics,
		Options: options,
		Unshown: c.Unshown,
		room:    room,
	})
	if err != nil {
		return err
	}
	owner := handler.EnqueueRequestForOwner(
		mgr.GetScheme(), mgr.GetRESTMapper(), &kaitov1alpha1.Workspace{}, handler.OnlyControllerOwner(),
	)
	b := ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Workers}).
		For(&kaitov1alpha1.Workspace{}, builder.WithPredicates(news)).
		Watches(&appsv1.Deployment{}, first(ofServer, owner), builder.WithPredicates(news)).
		Watches(&appsv1.StatefulSet{}, first(ofServer, owner), builder.WithPredicates(news)).
		Watches(&corev1.Service{}, first(ofServer, owner), builder.WithPredicates(news)).
		Watches(&corev1.Pod{}, first(ofServer, byLabels()), builder.WithPredicates(changed(podChanged))).
		Watches(&corev1.Node{}, first(ofPlace, handler.EnqueueRequestsFromMapFunc(w.ofNode)), builder.WithPredicates(nodeNews())).
		Watches(&kaitov1alpha1.Workspace{}, handler.EnqueueRequestsFromMapFunc(w.waiting), builder.WithPredicates(freesNodes())).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(w.ofConfigMap)).
		Watches(&apiextensionsv1.CustomResourceDefinition{}, handler.EnqueueRequestsFromMapFunc(w.ofDefinition),
			builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool { return kinds.Concerns(o.GetName()) })),
		)
	b = b.WatchesRawSource(source.Channel(roomEvents, room.woken()))
	if learned != nil {
		b = b.WatchesRawSource(learned)
	}
	built, err := b.Build(r)
	if err != nil {
		return fmt.Errorf("building the controller: %w", err)
	}
	kinds.Start(built)
	return nil
}

// roomAndEvents make a room that enqueues what it wakes by events.
func roomAndEvents() (*room, chan event.GenericEvent) {
	events := make(chan event.GenericEvent)
	room := newRoom()
	room.wake = func(ctx context.Context, requests ...reconcile.Request) {
		for _, request := range requests {
			w := &kaitov1alpha1.Workspace{}
			w.Name, w.Namespace = request.Name, request.Namespace
			select {
			case events <- event.GenericEvent{Object: w}:
			case <-ctx.Done():
				return
			}
		}
	}
	return room, events
}

// specChanged: the status is ours.
func specChanged(before, after client.Object) bool {
	return before.GetGeneration() != after.GetGeneration()
}

// foreignToUs drops what was written to an object that a watch says is gone, and passes no event that shows only what a
// pass has just written itself: that pass has gone on with it.
func foreignToUs(c *recent.Client) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !c.Shown(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool { return !c.Shown(e.ObjectNew) },
		DeleteFunc: func(e event.DeleteEvent) bool {
			c.Forget(e.Object)
			return true
		},
	}
}

// changed passes updates in which something that is read has changed.
func changed(differs func(before, after client.Object) bool) predicate.Funcs {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return differs(e.ObjectOld, e.ObjectNew) }}
}

// byLabels finds the Workspace of an object that carries its labels.
func byLabels() handler.EventHandler {
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

// watches find the Workspaces that an object concerns that does not name them.
type watches struct{ client client.Reader }

// ofNode finds the Workspace that a node was made for, or those that use it, or those that wait for such a node.
func (w watches) ofNode(ctx context.Context, o client.Object) []reconcile.Request {
	if requests := requestsByLabels(o); requests != nil {
		return requests
	}
	return w.those(ctx, func(ws *kaitov1alpha1.Workspace) bool {
		return slices.Contains(ws.Status.WorkerNodes, o.GetName()) || waits(ws)
	})
}

// waiting finds the Workspaces that a node would help that another one has given back.
func (w watches) waiting(ctx context.Context, _ client.Object) []reconcile.Request {
	return w.those(ctx, waits)
}

// waits says whether a Workspace lacks nodes and may use ones that are there.
func waits(w *kaitov1alpha1.Workspace) bool {
	return reuses(w) && !conditions.IsTrue(w, kaitov1alpha1.ConditionResourceReady)
}

func (w watches) those(ctx context.Context, wanted func(*kaitov1alpha1.Workspace) bool) []reconcile.Request {
	all := &kaitov1alpha1.WorkspaceList{}
	if err := w.client.List(ctx, all); err != nil {
		return nil // the cache has stopped, and so has everything else
	}
	var out []reconcile.Request
	for i := range all.Items {
		if wanted(&all.Items[i]) {
			out = append(out, request(&all.Items[i]))
		}
	}
	return out
}

func (w watches) ofConfigMap(ctx context.Context, o client.Object) []reconcile.Request {
	list := &kaitov1alpha1.WorkspaceList{}
	if err := w.client.List(
		ctx, list, client.MatchingFields{indexConfigs: o.GetNamespace() + "/" + o.GetName()},
	); err != nil {
		return nil // as above
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, request(&list.Items[i]))
	}
	return out
}

// ofDefinition finds all Workspaces, and asks besides for the kinds themselves: where there is no Workspace, claims of
// ones that are no more must be found too.
func (w watches) ofDefinition(ctx context.Context, _ client.Object) []reconcile.Request {
	return append(w.those(ctx, func(*kaitov1alpha1.Workspace) bool { return true }), theKinds)
}

func request(w *kaitov1alpha1.Workspace) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKeyFromObject(w)}
}
