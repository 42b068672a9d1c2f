// SPDX-License-Identifier: Apache-2.0

// Package controller holds the operator's own controllers; those of Karpenter's core are composed next to them, in
// core.go.
package controller

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

	"kaito.sh/gpu-provisioner/internal/pool"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

// The engine binds machines to claims, writes verdicts on them, and gives claims up.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims,verbs=list;watch;patch;delete
// The engine's memory across restarts: resume tokens of operations, and offerings that failed, in its own namespace.
// +kubebuilder:rbac:groups="",namespace=system,resources=configmaps,verbs=get;create;update

// Pools runs the engine's passes: whenever a claim or a node class changes, when somebody wakes it, and when something
// is due.
type Pools struct {
	Engine   *pool.Engine
	Provider corecloud.CloudProvider
}

// everything is the one request that there is: a pass looks at all pools and claims.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "pools"}}

// SetupWithManager adds the controller.
func (p *Pools) SetupWithManager(mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("pools").
		Watches(&karpv1.NodeClaim{}, all, builder.WithPredicates(nodeclaimutils.IsManagedPredicateFuncs(p.Provider))).
		Watches(&nodeclassv1alpha1.KaitoNodeClass{}, all).
		WatchesRawSource(source.Func(p.woken)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 1,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, 30*time.Second),
		}).
		Complete(p)
}

// woken turns the engine's wake-ups into requests, the first one at the start.
func (p *Pools) woken(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	queue.Add(everything)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-p.Engine.Woken():
				queue.Add(everything)
			}
		}
	}()
	return nil
}

// Reconcile runs one pass.
func (p *Pools) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	next, err := p.Engine.Pass(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: next}, nil
}
