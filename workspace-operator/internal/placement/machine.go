// SPDX-License-Identifier: Apache-2.0

package placement

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// provisionerName is what a Machine is accounted to; the contract fixes it.
const provisionerName = "default"

// Machines asks by karpenter.sh/v1alpha5.
type Machines struct{}

var _ API = Machines{}

// Kind is Machine.
func (Machines) Kind() string { return "Machine" }

// Condition is MachineReady.
func (Machines) Condition() string { return kaitov1alpha1.ConditionMachineReady }

// Object is an empty Machine.
func (Machines) Object() client.Object { return &karpenterv1alpha5.Machine{} }

// List is an empty list of Machines.
func (Machines) List() client.ObjectList { return &karpenterv1alpha5.MachineList{} }

// Items are the list's Machines.
func (Machines) Items(list client.ObjectList) []client.Object {
	machines, ok := list.(*karpenterv1alpha5.MachineList)
	if !ok {
		return nil
	}
	return pointers(machines.Items)
}

// Build renders a Machine.
func (Machines) Build(r Request) client.Object {
	labels := r.labels()
	labels[karpenterv1alpha5.LabelProvisionerName] = provisionerName
	m := &karpenterv1alpha5.Machine{
		TypeMeta:   metav1.TypeMeta{APIVersion: karpenterv1alpha5.GroupVersion.String(), Kind: "Machine"},
		ObjectMeta: metav1.ObjectMeta{Name: Name(r.UID, r.Ordinal, r.Attempt), Labels: labels, Annotations: r.annotations()},
		Spec: karpenterv1alpha5.MachineSpec{
			Taints:    taints(),
			Resources: karpenterv1alpha5.ResourceRequirements{Requests: r.requests()},
		},
	}
	for _, q := range append(r.requirements(), requirement{kaitov1alpha1.LabelMachineType, kaitov1alpha1.MachineTypeGPU}) {
		m.Spec.Requirements = append(m.Spec.Requirements, corev1.NodeSelectorRequirement{
			Key: q.key, Operator: corev1.NodeSelectorOpIn, Values: []string{q.value},
		})
	}
	return m
}

// Read reads a Machine.
func (k Machines) Read(obj client.Object) Claim {
	claim := read(k.Kind(), obj)
	m, ok := obj.(*karpenterv1alpha5.Machine)
	if !ok {
		return claim
	}
	for _, q := range m.Spec.Requirements {
		claim.require(q.Key, q.Values)
	}
	claim.GPUs = gpus(m.Spec.Resources.Requests)
	claim.NodeName, claim.ProviderID = m.Status.NodeName, m.Status.ProviderID
	claim.Acknowledged = len(m.Status.Conditions) > 0
	of := func(conditionType string) Condition {
		c := m.GetCondition(conditionType)
		if c == nil {
			return Condition{}
		}
		return Condition{Status: c.Status, Reason: c.Reason, Message: c.Message, Since: c.LastTransitionTime.Time}
	}
	claim.Launched = of(karpenterv1alpha5.ConditionMachineLaunched)
	claim.Registered = of(karpenterv1alpha5.ConditionMachineRegistered)
	claim.Initialized = of(karpenterv1alpha5.ConditionMachineInitialized)
	claim.Ready = of(karpenterv1alpha5.ConditionReady)
	return claim
}

// require takes over the two requirements that say what was asked for.
func (c *Claim) require(key string, values []string) {
	if len(values) != 1 {
		return
	}
	switch key {
	case corev1.LabelInstanceTypeStable:
		c.InstanceType = values[0]
	case labelCapacityType:
		c.CapacityType = kaitov1alpha1.CapacityType(values[0])
	}
}

// pointers makes objects of a list's items.
func pointers[T any, P interface {
	*T
	client.Object
}](items []T) []client.Object {
	out := make([]client.Object, len(items))
	for i := range items {
		out[i] = P(&items[i])
	}
	return out
}
