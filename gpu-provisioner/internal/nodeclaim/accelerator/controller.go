// SPDX-License-Identifier: Apache-2.0

package accelerator

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	clientgoevents "k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"
	nodeclaimutils "sigs.k8s.io/karpenter/pkg/utils/nodeclaim"

	"kaito.sh/gpu-provisioner/internal/offering"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/events"
	"kaito.sh/shared/patch"
)

// Config is what the reconciler needs.
type Config struct {
	Client   client.Client
	Provider corecloud.CloudProvider
	Events   clientgoevents.EventRecorder
	Metrics  prometheus.Registerer
	Clock    clock.PassiveClock
	// Timeout is the time that a Ready Node may take to report its GPUs.
	Timeout time.Duration
}

// Reconciler sets the condition Initialized of a NodeClaim to False when its Node does not report GPUs in time.
type Reconciler struct {
	Config
	failed prometheus.Counter
}

// New returns a Reconciler and registers its metric.
func New(c Config) *Reconciler {
	r := &Reconciler{Config: c, failed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "accelerator_not_ready_total",
		Help: "Nodes that were Ready but reported no GPUs within --gpu-ready-timeout.",
	})}
	c.Metrics.MustRegister(r.failed)
	return r
}

// SetupWithManager adds the controller to the manager.
func (r *Reconciler) SetupWithManager(_ context.Context, mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("accelerator").
		For(&karpv1.NodeClaim{}, builder.WithPredicates(nodeclaimutils.IsManagedPredicateFuncs(r.Provider))).
		Watches(&corev1.Node{}, nodeclaimutils.NodeEventHandler(mgr.GetClient(), r.Provider)).
		Complete(reconcile.AsReconciler(mgr.GetClient(), r))
}

// Reconcile sets Initialized to False when the timeout has passed; Karpenter does not change it then. It resets the
// condition to Unknown when the GPUs are reported later.
func (r *Reconciler) Reconcile(ctx context.Context, claim *karpv1.NodeClaim) (reconcile.Result, error) {
	if !claim.DeletionTimestamp.IsZero() || requestedGPUs(claim) == 0 {
		return reconcile.Result{}, nil
	}
	conditions := claim.StatusConditions()
	initialized := conditions.Get(karpv1.ConditionTypeInitialized)
	if initialized.IsTrue() || !conditions.Get(karpv1.ConditionTypeRegistered).IsTrue() {
		return reconcile.Result{}, nil
	}
	node, err := nodeclaimutils.NodeForNodeClaim(ctx, r.Client, claim)
	if err != nil {
		return reconcile.Result{}, nodeclaimutils.IgnoreDuplicateNodeError(nodeclaimutils.IgnoreNodeNotFoundError(err))
	}
	before := claim.DeepCopy()
	gpus := node.Status.Allocatable[offering.ResourceGPU]
	ready := nodeutils.GetCondition(node, corev1.NodeReady)
	failed := initialized.IsFalse() && initialized.Reason == karpenterv1alpha5.ReasonAcceleratorNotReady
	switch {
	case gpus.Value() > 0:
		if !failed {
			return reconcile.Result{}, nil
		}
		conditions.SetUnknownWithReason(
			karpv1.ConditionTypeInitialized, "AwaitingReconciliation", "the Node reports its GPUs now")
	case failed || ready.Status != corev1.ConditionTrue:
		return reconcile.Result{}, nil // node repair handles a Node that is not Ready
	default:
		left := r.Timeout - r.Clock.Since(ready.LastTransitionTime.Time)
		if left > 0 {
			return reconcile.Result{RequeueAfter: left}, nil
		}
		r.fail(claim, node, ready.LastTransitionTime.Time)
	}
	_, err = patch.Status(ctx, r.Client, before, claim)
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// fail sets the condition, counts the failure and records an event.
func (r *Reconciler) fail(claim *karpv1.NodeClaim, node *corev1.Node, since time.Time) {
	message := fmt.Sprintf(
		"Node %s is Ready since %s, but reports none of the %d requested %s. Check the pods of the device plugin and the driver on that Node",
		node.Name, since.UTC().Format(time.RFC3339), requestedGPUs(claim), offering.ResourceGPU)
	claim.StatusConditions().SetFalse(
		karpv1.ConditionTypeInitialized, karpenterv1alpha5.ReasonAcceleratorNotReady, message,
	)
	r.failed.Inc()
	events.Publish(r.Events, claim, corev1.EventTypeWarning, karpenterv1alpha5.ReasonAcceleratorNotReady, message)
}

// requestedGPUs returns how many GPUs the claim requests.
func requestedGPUs(claim *karpv1.NodeClaim) int64 {
	q := claim.Spec.Resources.Requests[offering.ResourceGPU]
	return q.Value()
}
