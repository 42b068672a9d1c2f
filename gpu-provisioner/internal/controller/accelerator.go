// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"
	nodeclaimutils "sigs.k8s.io/karpenter/pkg/utils/nodeclaim"

	"github.com/prometheus/client_golang/prometheus"

	"kaito.sh/gpu-provisioner/internal/offering"
	"kaito.sh/shared/excerpt"
	"kaito.sh/shared/patch"
)

// ReasonAcceleratorNotReady: the Node is Ready, but its GPUs did not become allocatable in time.
const ReasonAcceleratorNotReady = "AcceleratorNotReady"

// Accelerators gives the verdict on Nodes whose GPUs do not come up. Core waits for them without end.
type Accelerators struct {
	Client   client.Client
	Provider corecloud.CloudProvider
	Clock    clock.PassiveClock
	Recorder record.EventRecorder
	// Timeout is how long a Ready Node may take to report its GPUs.
	Timeout time.Duration
	failed  prometheus.Counter
}

// SetupWithManager adds the controller and its metric.
func (a *Accelerators) SetupWithManager(mgr ctrl.Manager, metrics prometheus.Registerer) error {
	a.failed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gpu_provisioner_accelerator_not_ready_total",
		Help: "Nodes that were Ready but reported no GPUs within --gpu-ready-timeout.",
	})
	if err := metrics.Register(a.failed); err != nil {
		return fmt.Errorf("registering a metric: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("accelerator").
		For(&karpv1.NodeClaim{}, builder.WithPredicates(nodeclaimutils.IsManagedPredicateFuncs(a.Provider))).
		Watches(&corev1.Node{}, nodeclaimutils.NodeEventHandler(mgr.GetClient(), a.Provider)).
		Complete(reconcile.AsReconciler(mgr.GetClient(), a))
}

// Reconcile sets Initialized to False when the deadline has passed, which core then leaves alone, and takes that back
// when the GPUs come up after all.
func (a *Accelerators) Reconcile(ctx context.Context, claim *karpv1.NodeClaim) (reconcile.Result, error) {
	if !claim.DeletionTimestamp.IsZero() || a.asked(claim) == 0 {
		return reconcile.Result{}, nil
	}
	conditions := claim.StatusConditions()
	initialized := conditions.Get(karpv1.ConditionTypeInitialized)
	if initialized.IsTrue() || !conditions.Get(karpv1.ConditionTypeRegistered).IsTrue() {
		return reconcile.Result{}, nil
	}
	node, err := nodeclaimutils.NodeForNodeClaim(ctx, a.Client, claim)
	if err != nil {
		return reconcile.Result{}, nodeclaimutils.IgnoreDuplicateNodeError(nodeclaimutils.IgnoreNodeNotFoundError(err))
	}
	before := claim.DeepCopy()
	have := node.Status.Allocatable[offering.ResourceGPU]
	ready := nodeutils.GetCondition(node, corev1.NodeReady)
	verdict := initialized.IsFalse() && initialized.Reason == ReasonAcceleratorNotReady
	switch {
	case have.Value() > 0:
		if !verdict {
			return reconcile.Result{}, nil
		}
		conditions.SetUnknownWithReason(
			karpv1.ConditionTypeInitialized, "AwaitingReconciliation", "the GPUs came up after all",
		)
	case verdict || ready.Status != corev1.ConditionTrue:
		return reconcile.Result{}, nil // a Node that is not Ready is node repair's
	default:
		left := a.Timeout - a.Clock.Since(ready.LastTransitionTime.Time)
		if left > 0 {
			return reconcile.Result{RequeueAfter: left}, nil
		}
		message := fmt.Sprintf(
			"Node %s is Ready since %s and reports no %s, of %d asked for; check the device plugin's and the driver's pods on it",
			node.Name, ready.LastTransitionTime.UTC().Format(time.RFC3339), offering.ResourceGPU, a.asked(claim),
		)
		conditions.SetFalse(karpv1.ConditionTypeInitialized, ReasonAcceleratorNotReady, message)
		a.failed.Inc()
		a.Recorder.Event(claim, corev1.EventTypeWarning, ReasonAcceleratorNotReady, excerpt.Note(message))
	}
	_, err = patch.Status(ctx, a.Client, before, claim)
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// asked is how many GPUs the claim wants to see.
func (a *Accelerators) asked(claim *karpv1.NodeClaim) int64 {
	q := claim.Spec.Resources.Requests[offering.ResourceGPU]
	return q.Value()
}
