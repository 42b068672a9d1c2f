// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"

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
	"sigs.k8s.io/controller-runtime/pkg/source"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/recent"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/foreign"
	"kaito.sh/workspace-operator/internal/gpubudget"
	"kaito.sh/workspace-operator/internal/lookup"
	"kaito.sh/workspace-operator/internal/serving"
	"kaito.sh/workspace-operator/internal/watch"
)

// controllerName is in logs, metrics and events.
const controllerName = "workspace"

// Operator is what the operator is composed of besides the manager.
type Operator struct {
	Options  Options
	Catalog  *catalog.Catalog
	Registry prometheus.Registerer
	Clock    clock.WithTicker
}

// SetupWithManager adds the operator's controllers to a manager.
func (o Operator) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	if err := watch.Index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	c := recent.New(mgr.GetClient(), o.Clock, watch.ClaimIndexes(), watch.Trim)
	room := gpubudget.NewRoom()
	rents := o.Options.NodeAPI != NodeAPINone
	kinds, err := foreign.New(mgr.GetCache(), mgr.GetScheme(), foreignKinds(mgr, c, room, rents)...)
	if err != nil {
		return err
	}
	metrics, err := NewMetrics(o.Registry, mgr.GetCache(), o.Clock)
	if err != nil {
		return err
	}
	models, learned, err := o.lookups(mgr)
	if err != nil {
		return err
	}
	r, err := New(Config{
		Client: c, Live: mgr.GetAPIReader(), Kinds: kinds, Secrets: DryRunSecrets{Client: mgr.GetClient()},
		Catalog: o.Catalog, Engine: vllm.Engine{}, Models: models, Clock: o.Clock,
		Events: mgr.GetEventRecorder(controllerName), Metrics: metrics,
		Options: o.Options, Unconfirmed: c.Unshown, Room: room,
	})
	if err != nil {
		return err
	}
	built, err := r.build(mgr, c, kinds, learned, o.Options.Workers)
	if err != nil {
		return err
	}
	kinds.Start(built)
	if err := kinds.SetupWithManager(mgr); err != nil {
		return err
	}
	return gpubudget.New(gpubudget.Config{Client: c, Ledger: r.placer.ledger}).SetupWithManager(ctx, mgr)
}

// foreignKinds returns the kinds whose definitions may be absent, with the Workspaces that their events enqueue.
func foreignKinds(mgr ctrl.Manager, c *recent.Client, room *gpubudget.Room, rents bool) []foreign.Kind {
	news := []predicate.Predicate{watch.NotOwnWrite(c)}
	claims := watch.WithPriority(watch.PriorityPlacement, room.OfClaims(watch.ByLabels()))
	var out []foreign.Kind
	if rents { // otherwise the operator has no right to read claims
		out = append(out, foreign.Kind{
			Object: &karpenterv1alpha5.Machine{}, Resource: "machines", Handler: claims, Predicates: news,
			Indexes: watch.ClaimIndexes(), Gone: c.ForgetKind,
		}, foreign.Kind{
			Object: &karpv1.NodeClaim{}, Resource: "nodeclaims", Handler: claims, Predicates: news,
			Indexes: watch.ClaimIndexes(), Gone: c.ForgetKind,
		})
	}
	return append(out, []foreign.Kind{
		{
			Object: &tuningv1alpha1.TuningJob{}, Resource: "tuningjobs", Predicates: news, Gone: c.ForgetKind,
			Handler: watch.WithPriority(watch.PriorityPlacement, ofOwner(mgr)),
		},
		{
			Object: serving.PoolMetadata(), Resource: serving.PoolResource, Predicates: news, Gone: c.ForgetKind,
			Handler: watch.WithPriority(watch.PriorityServing, watch.ByLabels()),
		},
		{
			Object: &kaitov1alpha1.GPUBudget{}, Resource: "gpubudgets", Handler: room.OfBudgets(),
			Predicates: append(news, watch.Changed(watch.SpecChanged)),
			Gone: func(obj client.Object) {
				c.ForgetKind(obj)
				room.ForgetBudgets()
			},
		},
	}...)
}

// ofOwner enqueues the Workspace that controls an object.
func ofOwner(mgr ctrl.Manager) handler.EventHandler {
	return handler.EnqueueRequestForOwner(
		mgr.GetScheme(), mgr.GetRESTMapper(), &kaitov1alpha1.Workspace{}, handler.OnlyControllerOwner())
}

// build adds the Workspace controller to a manager.
func (r *Reconciler) build(
	mgr ctrl.Manager, c *recent.Client, kinds *foreign.Kinds, learned source.Source, workers int,
) (controller.Controller, error) {
	requests := watch.Requests{Client: c}
	news := builder.WithPredicates(watch.NotOwnWrite(c))
	children := watch.WithPriority(watch.PriorityServing, ofOwner(mgr))
	byLabels := watch.WithPriority(watch.PriorityServing, watch.ByLabels())
	ofNode := watch.WithPriority(watch.PriorityPlacement, handler.EnqueueRequestsFromMapFunc(requests.OfNode))
	built, err := ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		For(&kaitov1alpha1.Workspace{}, news).
		Watches(&appsv1.Deployment{}, children, news).
		Watches(&appsv1.StatefulSet{}, children, news).
		Watches(&corev1.Service{}, children, news).
		Watches(&corev1.Pod{}, byLabels, builder.WithPredicates(watch.Changed(watch.PodChanged))).
		Watches(&corev1.Node{}, ofNode, builder.WithPredicates(watch.UsefulNode())).
		Watches(
			&kaitov1alpha1.Workspace{}, handler.EnqueueRequestsFromMapFunc(requests.Waiting),
			builder.WithPredicates(watch.FreesNodes()),
		).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(requests.OfConfigMap)).
		Watches(
			&apiextensionsv1.CustomResourceDefinition{}, handler.EnqueueRequestsFromMapFunc(requests.All),
			builder.WithPredicates(kinds.Predicate()),
		).
		WatchesRawSource(r.room.Workspaces()).
		WatchesRawSource(learned).
		Build(r)
	if err != nil {
		return nil, fmt.Errorf("building the controller %s: %w", controllerName, err)
	}
	return built, nil
}

// lookups adds the lookup of models that the catalogue does not have, and returns it with the source that enqueues
// Workspaces when a model is known.
func (o Operator) lookups(mgr ctrl.Manager) (Models, source.Source, error) {
	models := o.Options.models(o.Catalog, o.Clock)
	events := make(chan event.GenericEvent)
	models.OnResult(func(ctx context.Context, name types.NamespacedName) {
		w := &kaitov1alpha1.Workspace{}
		w.Name, w.Namespace = name.Name, name.Namespace
		select {
		case events <- event.GenericEvent{Object: w}:
		case <-ctx.Done():
		}
	})
	if err := mgr.Add(models); err != nil {
		return nil, nil, fmt.Errorf("adding the lookup of models: %w", err)
	}
	return models, source.Channel(events, &handler.EnqueueRequestForObject{}), nil
}

var _ Models = &lookup.Models{}
