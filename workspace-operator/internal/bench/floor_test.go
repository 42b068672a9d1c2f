// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	recorder "k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/events"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
	own "kaito.sh/workspace-operator/internal/workspace"
)

// floor makes the calls that cannot be saved, and thinks about nothing. It remembers in memory what it has done: it
// need not survive.
type floor struct {
	client client.Client
	events recorder.EventRecorder
	// stages by Workspace: 0 nothing, 1 claimed, 2 applied, 3 ready.
	mu     sync.Mutex
	stages map[client.ObjectKey]int
	bare   bool
}

func (f *floor) stage(key client.ObjectKey) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stages[key]
}

func (f *floor) reach(key client.ObjectKey, stage int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stages[key] = stage
}

func setupFloor(mgr ctrl.Manager, bare bool) error {
	f := &floor{client: mgr.GetClient(), events: mgr.GetEventRecorder("floor"), stages: map[client.ObjectKey]int{}, bare: bare}
	return ctrl.NewControllerManagedBy(mgr).Named("floor").
		For(&kaitov1alpha1.Workspace{}).
		Owns(&appsv1.Deployment{}).
		Watches(&karpenterv1alpha5.Machine{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{
				{
					NamespacedName: client.ObjectKey{
						Namespace: o.GetLabels()[kaitov1alpha1.LabelWorkspaceNamespace],
						Name:      o.GetLabels()[kaitov1alpha1.LabelWorkspaceName],
					},
				},
			}
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: own.DefaultOptions().Workers}).
		Complete(f)
}

// Reconcile takes the next step that is possible.
func (f *floor) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	w := &kaitov1alpha1.Workspace{}
	if err := f.client.Get(ctx, request.NamespacedName, w); err != nil || w.DeletionTimestamp != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	in := serving.Input{
		Workspace: w,
		Labels:    placement.OwnerLabels(w),
		Owner:     *metav1.NewControllerRef(w, kaitov1alpha1.GroupVersion.WithKind("Workspace")),
		Engine: serving.Engine{
			Software: vllm.Engine{},
			Image:    "example.com/engine:1",
			GPUs:     1,
		},
		Placement: serving.Placement{Nodes: 1},
		Images:    serving.Images{Gateway: "example.com/gateway:1", Runner: "example.com/runner:1"},
	}
	switch f.stage(request.NamespacedName) {
	case 0:
		before := w.DeepCopy()
		controllerutil.AddFinalizer(w, kaitov1alpha1.Finalizer)
		if err := f.client.Patch(ctx, w, client.MergeFrom(before)); err != nil {
			return reconcile.Result{}, err
		}
		claim := placement.Machines{}.Build(
			placement.Request{
				Name:         w.Name,
				Namespace:    w.Namespace,
				UID:          w.UID,
				InstanceType: w.Resource.InstanceType,
				CapacityType: "on-demand",
				GPUs:         1,
				DiskGiB:      100,
			},
		)
		if err := f.client.Create(ctx, claim); err != nil && !apierrors.IsAlreadyExists(err) {
			return reconcile.Result{}, err
		}
		f.reach(request.NamespacedName, 1)
	case 1:
		m := &karpenterv1alpha5.Machine{}
		if err := f.client.Get(ctx, client.ObjectKey{Name: placement.Name(w.UID, 0, 0)}, m); err != nil ||
			m.GetCondition("Ready") == nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
		if err := f.client.Create(ctx, serving.Service(in)); err != nil {
			return reconcile.Result{}, err
		}
		if err := f.client.Create(ctx, serving.Deployment(in)); err != nil {
			return reconcile.Result{}, err
		}
		f.reach(request.NamespacedName, 2)
		return reconcile.Result{}, f.status(ctx, w, false)
	case 2:
		d := &appsv1.Deployment{}
		if err := f.client.Get(ctx, request.NamespacedName, d); err != nil || d.Status.AvailableReplicas == 0 {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
		f.reach(request.NamespacedName, 3)
		return reconcile.Result{}, f.status(ctx, w, true)
	}
	return reconcile.Result{}, nil
}

// status writes what the contract asks for: all conditions, the plan with its arithmetic, nodes and milestones. A
// smaller status would be cheaper for the API server, which spends twice as long on eight conditions as on three, but
// no operator of the contract may write it. With -bare it is the verdict alone.
func (f *floor) status(ctx context.Context, w *kaitov1alpha1.Workspace, ready bool) error {
	before := w.DeepCopy()
	if ready {
		conditions.MarkReady(w, kaitov1alpha1.ReasonReady, "the engine answers at "+serving.Endpoint(w))
	} else {
		conditions.MarkReconciling(w, kaitov1alpha1.ReasonStarting, "the engine starts")
	}
	if !f.bare {
		full(w, ready)
	}
	if err := f.client.Status().Patch(ctx, w, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	// The operator publishes the steps whose status it writes: in this world, where all comes at once, the last one.
	if is := conditions.Get(w, conditions.Ready); ready {
		events.Publish(f.events, w, corev1.EventTypeNormal, is.Reason, is.Message)
	}
	return nil
}

func full(w *kaitov1alpha1.Workspace, ready bool) {
	const placed = "1 of 1 nodes of size Standard_NC24ads_A100_v4 are usable"
	verdict, reason, message := metav1.ConditionFalse, kaitov1alpha1.ReasonStarting, "the engine starts"
	if ready {
		verdict, reason, message = metav1.ConditionTrue, kaitov1alpha1.ReasonReady, "the engine answers at "+serving.Endpoint(
			w,
		)
	}
	conditions.Set(w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady, placed)
	conditions.Set(w, kaitov1alpha1.ConditionMachineReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady, placed)
	for _, c := range []string{kaitov1alpha1.ConditionInferenceReady, kaitov1alpha1.ConditionWorkspaceReady, kaitov1alpha1.ConditionWorkspaceSucceeded} {
		conditions.Set(w, c, verdict, reason, message)
	}
	now := metav1.Now()
	w.Status.ObservedGeneration, w.Status.TargetNodeCount, w.Status.WorkerNodes = w.Generation, 1, []string{
		"n-" + placement.Name(w.UID, 0, 0),
	}
	w.Status.State, w.Status.Endpoint = kaitov1alpha1.StateStarting, serving.Endpoint(w)
	w.Status.Milestones = &kaitov1alpha1.Milestones{Planned: &now, NodesRequested: &now, NodesReady: &now}
	if ready {
		w.Status.State, w.Status.Milestones.EngineReady = kaitov1alpha1.StateRunning, &now
	}
	w.Status.Plan = &kaitov1alpha1.PlanStatus{
		InstanceType:     w.Resource.InstanceType,
		CapacityType:     kaitov1alpha1.CapacityOnDemand,
		Nodes:            1,
		GPUsPerNode:      1,
		TensorParallel:   1,
		PipelineParallel: 1,
		DataParallel:     1,
		MaxModelLen:      131072,
		DType:            "bfloat16",
		EngineImage:      "vllm/vllm-openai:v0.00.0",
		Model:            "microsoft/Phi-4-mini-instruct",
		Revision:         "0000000000000000000000000000000000000000",
		Memory: &kaitov1alpha1.MemoryPlan{
			Weights:     "7.29",
			KVCache:     "16.00",
			Activations: "2.65",
			Overhead:    "8.00",
			Free:        "46.06",
		},
		CostPerHour: "3.673",
		PriceDate:   "2026-06-18",
	}
}
