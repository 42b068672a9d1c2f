// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/cluster"
)

// provisioner is a node provisioner made by hand: it knows docs/contracts/node-provisioner.md and nothing else. Numbers
// in brackets are the contract's rules. A machine is a Node of the Machine's name that KWOK keeps Ready.
type provisioner struct {
	client client.Client
	// soldOut is a size that it does not have.
	soldOut string
}

func (p *provisioner) setup(mgr ctrl.Manager) error {
	p.client = mgr.GetClient()
	return ctrl.NewControllerManagedBy(mgr).For(&karpenterv1alpha5.Machine{}).
		Watches(&corev1.Node{}, &handler.EnqueueRequestForObject{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, pod client.Object) []ctrl.Request {
			return []ctrl.Request{{NamespacedName: client.ObjectKey{Name: pod.(*corev1.Pod).Spec.NodeName}}}
		})).Named("hand-made-provisioner").Complete(p)
}

func (p *provisioner) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	machine := &karpenterv1alpha5.Machine{}
	if err := p.client.Get(ctx, req.NamespacedName, machine); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if machine.DeletionTimestamp != nil {
		return ctrl.Result{}, p.release(ctx, machine)
	}
	if controllerutil.AddFinalizer(machine, karpenterv1alpha5.TerminationFinalizer) { // [8]
		return ctrl.Result{}, p.client.Update(ctx, machine)
	}
	if size := requirement(machine, corev1.LabelInstanceTypeStable); size == p.soldOut { // [6]
		set(
			machine, karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionFalse, "SoldOut",
			"size "+size+" is not available: use another size",
		)
		return ctrl.Result{}, p.client.Status().Update(ctx, machine)
	}
	node, err := p.launch(ctx, machine)
	if err != nil {
		return ctrl.Result{}, err
	}
	machine.Status.NodeName, machine.Status.ProviderID = node.Name, node.Spec.ProviderID
	set(machine, karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionTrue, "Launched", "")
	set(machine, karpenterv1alpha5.ConditionMachineRegistered, corev1.ConditionTrue, "Registered", "")
	usable, reason := corev1.ConditionUnknown, "Booting"                                // [7]
	if ready(node) && holds(node.Status.Allocatable, machine.Spec.Resources.Requests) { // [5]
		usable, reason = corev1.ConditionTrue, "Initialized"
	}
	set(machine, karpenterv1alpha5.ConditionMachineInitialized, usable, reason, "")
	set(machine, karpenterv1alpha5.ConditionReady, usable, reason, "")
	return ctrl.Result{}, p.client.Status().Update(ctx, machine)
}

// launch makes the Node with what the Machine asks for, or finds it.
func (p *provisioner) launch(ctx context.Context, machine *karpenterv1alpha5.Machine) (*corev1.Node, error) {
	node := &corev1.Node{}
	err := p.client.Get(ctx, client.ObjectKeyFromObject(machine), node)
	if apierrors.IsNotFound(err) {
		node = &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name: machine.Name, Labels: maps.Clone(machine.Labels), // [3]
				Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue},
			},
			Spec: corev1.NodeSpec{ProviderID: "hand-made:///" + machine.Name, Taints: machine.Spec.Taints}, // [5]
		}
		for _, r := range machine.Spec.Requirements {
			node.Labels[r.Key] = r.Values[0] // [4]
		}
		err = p.client.Create(ctx, node)
	}
	if err != nil || len(node.Status.Allocatable) > 0 {
		return node, err
	}
	before := node.DeepCopy()
	node.Status.Allocatable = maps.Clone(machine.Spec.Resources.Requests)
	// As much as the largest size has that the tests ask for.
	node.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("48")
	node.Status.Allocatable[corev1.ResourceMemory] = resource.MustParse("440Gi")
	node.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("110")
	node.Status.Capacity = node.Status.Allocatable
	return node, p.client.Status().Patch(ctx, node, client.MergeFrom(before))
}

// release gives the Node up when its pods have ended, and lets the Machine go when it is gone. [8]
func (p *provisioner) release(ctx context.Context, machine *karpenterv1alpha5.Machine) error {
	pods := &corev1.PodList{}
	if err := p.client.List(ctx, pods); err != nil {
		return err
	}
	if slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool { return pod.Spec.NodeName == machine.Name }) {
		return nil
	}
	err := p.client.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: machine.Name}})
	if apierrors.IsNotFound(err) && controllerutil.RemoveFinalizer(machine, karpenterv1alpha5.TerminationFinalizer) {
		return client.IgnoreNotFound(p.client.Update(ctx, machine))
	}
	return client.IgnoreNotFound(err)
}

func requirement(machine *karpenterv1alpha5.Machine, key string) string {
	for _, r := range machine.Spec.Requirements {
		if r.Key == key {
			return r.Values[0]
		}
	}
	panic(fmt.Sprintf("Machine %s has no requirement %s, against rule 4", machine.Name, key))
}

func set(
	machine *karpenterv1alpha5.Machine, conditionType string, status corev1.ConditionStatus, reason, message string,
) {
	want := karpenterv1alpha5.Condition{
		Type:               conditionType,
		Status:             status,
		Reason:             reason,
		Message:            message,
		LastTransitionTime: metav1.Now(),
	}
	if had := machine.GetCondition(conditionType); had == nil {
		machine.Status.Conditions = append(machine.Status.Conditions, want)
	} else if had.Status != status {
		*had = want
	}
}

func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func holds(allocatable, requests corev1.ResourceList) bool {
	for name, want := range requests {
		if have := allocatable[name]; have.Cmp(want) < 0 {
			return false
		}
	}
	return allocatable.Name(kaitov1alpha1.ResourceNvidiaGPU, resource.DecimalSI).Value() > 0
}
