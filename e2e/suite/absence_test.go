// SPDX-License-Identifier: Apache-2.0

package suite_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
)

// A short acknowledgement timeout, so that the test need not wait for the two minutes of the default.
var impatient = map[stack.Operator][]string{stack.WorkspaceOperator: {"--claim-ack-timeout=3s"}}

func TestWorkspaceContinuesWhenAProvisionerStarts(t *testing.T) {
	stacktest.Parallel(t)
	s := stacktest.Start(
		t,
		stack.Options{
			Operators:            []stack.Operator{stack.WorkspaceOperator, stack.TuningOperator},
			WithoutKarpenterCRDs: true,
			Args:                 impatient,
		},
	)
	stacktest.QuickStart(t, s)
	stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Says(kaitov1alpha1.ReasonNodeAPIMissing))

	// The CRDs are installed without the operator.
	require.NoError(t, s.InstallKarpenterCRDs(t.Context()))
	require.NoError(t, s.Install(t.Context(), stack.GPUProvisioner))
	stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Says(kaitov1alpha1.ReasonNoProvisioner))

	require.NoError(t, s.Run(t.Context(), stack.GPUProvisioner))
	stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Ready)
}

func TestWorkspaceContinuesWhenTuningOperatorStarts(t *testing.T) {
	stacktest.Parallel(t)
	s := stacktest.Start(
		t, stack.Options{Operators: []stack.Operator{stack.WorkspaceOperator, stack.GPUProvisioner}, Args: impatient},
	)
	stacktest.QuickStart(t, s)
	stacktest.EventuallyWorkspace(
		t, s, stacktest.QuickStartName, stacktest.Says(kaitov1alpha1.ReasonTuningOperatorMissing),
	)

	require.NoError(t, s.Install(t.Context(), stack.TuningOperator))
	require.NoError(t, s.Run(t.Context(), stack.TuningOperator))
	stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Ready)
}

func TestMachineBecomesANodeWithoutWorkspaceOperator(t *testing.T) {
	stacktest.Parallel(t)
	s := stacktest.Start(t, stack.Options{Operators: []stack.Operator{stack.GPUProvisioner, stack.TuningOperator}})
	one := func(key string, value string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}
	}
	machine := &karpenterv1alpha5.Machine{
		ObjectMeta: metav1.ObjectMeta{
			Name:   "alone1",
			Labels: map[string]string{karpenterv1alpha5.LabelProvisionerName: "default"},
		},
		Spec: karpenterv1alpha5.MachineSpec{
			Requirements: []corev1.NodeSelectorRequirement{
				one(corev1.LabelInstanceTypeStable, "Standard_NC6s_v3"),
				one(karpenterv1alpha5.LabelCapacityType, "on-demand"),
				one(corev1.LabelOSStable, "linux"),
				one(corev1.LabelArchStable, "amd64"),
				one(kaitov1alpha1.LabelMachineType, kaitov1alpha1.MachineTypeGPU),
			},
			Resources: karpenterv1alpha5.ResourceRequirements{
				Requests: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")},
			},
			Taints: []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}},
		},
	}
	require.NoError(t, s.Client.Create(t.Context(), machine))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, s.Client.Get(t.Context(), client.ObjectKeyFromObject(machine), machine))
		condition := machine.GetCondition(karpenterv1alpha5.ConditionReady)
		require.NotNil(c, condition)
		assert.Equal(c, corev1.ConditionTrue, condition.Status)
	}, stacktest.Journey, eventually.StoryTick)
	require.NoError(t, s.Client.Delete(t.Context(), machine))
	stacktest.NothingLeft(t, s)
}
