// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"
	nodeclaimutils "sigs.k8s.io/karpenter/pkg/utils/nodeclaim"

	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

// The engine binds machines to claims, writes failures to them, and deletes them.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims,verbs=list;watch;patch;delete
// ConfigMaps in the operator's namespace keep running operations and unavailable offerings across restarts.
// +kubebuilder:rbac:groups="",namespace=system,resources=configmaps,verbs=get;create;update

// Config is what the reconciler needs.
type Config struct {
	Engine   *Engine
	Provider corecloud.CloudProvider
}

// Reconciler runs the engine's passes: when a NodeClaim or a node class changes, when the engine is woken, and when the
// last pass asked for the next one.
type Reconciler struct{ Config }

// New returns a Reconciler.
func New(c Config) *Reconciler { return &Reconciler{c} }

// everything is the only request, because a pass handles all pools and claims.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "pools"}}

// SetupWithManager adds the controller to the manager.
func (r *Reconciler) SetupWithManager(_ context.Context, mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, 30*time.Second)
	return ctrl.NewControllerManagedBy(mgr).
		Named("pools").
		Watches(&karpv1.NodeClaim{}, all, builder.WithPredicates(nodeclaimutils.IsManagedPredicateFuncs(r.Provider))).
		Watches(&nodeclassv1alpha1.KaitoNodeClass{}, all).
		WatchesRawSource(source.Func(r.wakeUps)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, RateLimiter: limiter}).
		Complete(r)
}

// wakeUps enqueues a request at the start and after each call of Engine.Wake.
func (r *Reconciler) wakeUps(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	queue.Add(everything)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.Engine.Woken():
				queue.Add(everything)
			}
		}
	}()
	return nil
}

// Reconcile runs one pass.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	next, err := r.Engine.Pass(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: next}, nil
}
