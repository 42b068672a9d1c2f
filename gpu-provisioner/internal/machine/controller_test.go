// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/pool"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

func TestMachineGetsANodeClaimOfItsName(t *testing.T) {
	f := newFixture(t)
	f.start("ws1")
	claim, m := f.claim("ws1"), f.machine("ws1")
	assert.True(t, metav1.IsControlledBy(claim, m))
	assert.Equal(t, "KaitoNodeClass", claim.Spec.NodeClassRef.Kind)
	assert.Equal(t, "default", claim.Spec.NodeClassRef.Name)
	assert.Equal(t, "w", claim.Labels["kaito.sh/workspace"])
	assert.Nil(t, claim.Spec.ExpireAfter.Duration, "Never")
	assert.Equal(t, "true", claim.Annotations[karpv1.DoNotDisruptAnnotationKey])
	assert.Equal(t, m.Spec.Taints, claim.Spec.Taints)
	assert.NotContains(t, claim.Spec.Resources.Requests, corev1.ResourceStorage, "no Node reports this resource")
	assert.Equal(t, "100Gi", claim.Spec.Resources.Requests.StorageEphemeral().String())
	assert.Contains(t, m.Finalizers, karpenterv1alpha5.TerminationFinalizer)
}

func TestStatusIsMirroredOnce(t *testing.T) {
	f := newFixture(t)
	f.start("ws1")
	f.karpenter("ws1", func(c *karpv1.NodeClaim) {
		c.Labels[corev1.LabelInstanceTypeStable] = "Standard_NC24ads_A100_v4"
		c.Status.ProviderID, c.Status.NodeName = "azure:///x", "aks-x-0"
		for _, condition := range []string{karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized} {
			c.StatusConditions().SetTrue(condition)
		}
	})
	f.settle("ws1")
	m := f.machine("ws1")
	for _, condition := range []string{karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ConditionMachineInitialized, karpenterv1alpha5.ConditionReady} {
		require.NotNil(t, m.GetCondition(condition), condition)
		assert.Equal(t, corev1.ConditionTrue, m.GetCondition(condition).Status, condition)
	}
	assert.Equal(t, "aks-x-0", m.Status.NodeName)
	assert.Equal(t, "azure:///x", m.Status.ProviderID)
	assert.Equal(t, "Standard_NC24ads_A100_v4", m.Labels[corev1.LabelInstanceTypeStable])
	before := f.writes
	f.settle("ws1")
	assert.Equal(t, before, f.writes)
}

func TestReasonOfAFailedLaunchStays(t *testing.T) {
	f := newFixture(t)
	f.start("ws1")
	f.launched("ws1", metav1.ConditionUnknown, "QuotaExceeded", "needs 24, has 8 of 100 left")
	// Karpenter deletes the claim before the Machine is reconciled again.
	require.NoError(t, f.Client.Delete(t.Context(), f.claim("ws1")))
	f.settle("ws1")
	require.NotNil(t, f.claim("ws1"), "Karpenter still has its finalizer")
	f.karpenter("ws1", func(c *karpv1.NodeClaim) { c.Finalizers = []string{EvidenceFinalizer} })
	f.settle("ws1")
	assert.Nil(t, f.claim("ws1"))
	for range 3 {
		f.settle("ws1")
		launched := f.machine("ws1").GetCondition(karpenterv1alpha5.ConditionMachineLaunched)
		assert.Equal(t, corev1.ConditionFalse, launched.Status)
		assert.Equal(t, "QuotaExceeded", launched.Reason)
		assert.Equal(t, "needs 24, has 8 of 100 left", launched.Message)
		assert.Equal(t, corev1.ConditionFalse, f.machine("ws1").GetCondition(karpenterv1alpha5.ConditionReady).Status)
		assert.Nil(t, f.claim("ws1"), "no second claim")
	}
	assert.Contains(t, <-f.events.Events, "QuotaExceeded")
}

func TestFailureIsMirroredBeforeTheClaimIsDeleted(t *testing.T) {
	f := newFixture(t)
	f.start("ws1")
	f.karpenter("ws1", func(c *karpv1.NodeClaim) {
		c.Annotations[pool.AnnotationFailure] = `{"reason":"CapacityUnavailable","message":"none left","class":"capacity"}`
	})
	f.settle("ws1")
	launched := f.machine("ws1").GetCondition(karpenterv1alpha5.ConditionMachineLaunched)
	assert.Equal(t, corev1.ConditionFalse, launched.Status)
	assert.Equal(t, "CapacityUnavailable", launched.Reason)
}

func TestReasonOfADeletedClaim(t *testing.T) {
	launched := func(c *karpv1.NodeClaim) { c.StatusConditions().SetTrue(karpv1.ConditionTypeLaunched) }
	for name, tc := range map[string]struct {
		claim     func(*karpv1.NodeClaim)
		after     time.Duration
		condition string
		reason    string
	}{
		"not launched":      {func(c *karpv1.NodeClaim) { c.StatusConditions() }, 0, karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ReasonLaunchTimeout},
		"launched only":     {launched, 0, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ReasonNodeGone},
		"launched long ago": {launched, pool.CoreRegistrationTimeout, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ReasonNodeNeverJoined},
		"failed with a reason": {func(c *karpv1.NodeClaim) {
			c.StatusConditions().SetTrue(karpv1.ConditionTypeLaunched)
			c.StatusConditions().SetFalse(karpv1.ConditionTypeRegistered, karpenterv1alpha5.ReasonMachineGone, "evicted")
		}, 0, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ReasonMachineGone},
		"initialized": {func(c *karpv1.NodeClaim) {
			for _, condition := range []string{karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized} {
				c.StatusConditions().SetTrue(condition)
			}
		}, 0, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ReasonNodeGone},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.start("ws1")
			f.karpenter("ws1", tc.claim)
			f.settle("ws1")
			f.clock.Step(tc.after)
			require.NoError(t, f.Client.Delete(t.Context(), f.claim("ws1")))
			f.karpenter("ws1", func(c *karpv1.NodeClaim) { c.Finalizers = []string{EvidenceFinalizer} })
			f.settle("ws1")
			c := f.machine("ws1").GetCondition(tc.condition)
			require.NotNil(t, c)
			assert.Equal(t, corev1.ConditionFalse, c.Status)
			assert.Equal(t, tc.reason, c.Reason)
			assert.Equal(t, corev1.ConditionFalse, f.machine("ws1").GetCondition(karpenterv1alpha5.ConditionReady).Status)
		})
	}
}

func TestDeletedMachineWaitsForItsClaim(t *testing.T) {
	f := newFixture(t)
	f.start("ws1")
	require.NoError(t, f.Client.Delete(t.Context(), f.machine("ws1")))
	f.settle("ws1")
	require.NotNil(t, f.claim("ws1"))
	require.False(t, f.claim("ws1").DeletionTimestamp.IsZero(), "the claim is deleted")
	assert.NotEmpty(t, f.machine("ws1").Finalizers, "the Machine stays until its claim is gone")
	f.karpenter("ws1", func(c *karpv1.NodeClaim) { c.Finalizers = []string{EvidenceFinalizer} })
	f.settle("ws1")
	assert.Nil(t, f.claim("ws1"))
	err := f.Client.Get(t.Context(), client.ObjectKey{Name: "ws1"}, &karpenterv1alpha5.Machine{})
	assert.True(t, apierrors.IsNotFound(err))
}

func TestClaimWithoutItsMachineIsReleased(t *testing.T) {
	f := newFixture(t)
	f.start("ws1")
	m := f.machine("ws1")
	m.Finalizers = nil
	require.NoError(t, f.Client.Update(t.Context(), m))
	require.NoError(t, f.Client.Delete(t.Context(), m))
	f.settle("ws1")
	require.NotNil(t, f.claim("ws1"), "the claim is not being deleted")

	require.NoError(t, f.Client.Delete(t.Context(), f.claim("ws1"))) // as the garbage collector does
	f.settle("ws1")
	require.NotNil(t, f.claim("ws1"), "Karpenter still has its finalizer")
	f.karpenter("ws1", func(c *karpv1.NodeClaim) { c.Finalizers = []string{EvidenceFinalizer} })
	f.settle("ws1")
	assert.Nil(t, f.claim("ws1"), "the Machine does not need its status")
}

func TestClaimOfAnotherOwnerIsLeftAlone(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.Client.Create(t.Context(), &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "ws1"}}))
	require.NoError(t, f.Client.Create(t.Context(), machineOf("ws1")))
	f.settle("ws1")
	assert.Equal(t, karpenterv1alpha5.ReasonNameTaken, f.machine("ws1").GetCondition(karpenterv1alpha5.ConditionMachineLaunched).Reason)
	require.NoError(t, f.Client.Delete(t.Context(), f.machine("ws1")))
	f.settle("ws1")
	assert.True(t, f.claim("ws1").DeletionTimestamp.IsZero())
}

func TestMachineOfAnotherProviderIsIgnored(t *testing.T) {
	f := newFixture(t)
	cpu := machineOf("cpu")
	cpu.Spec.Requirements[1].Values = []string{"cpu"}
	aws := machineOf("aws")
	aws.Spec.MachineTemplateRef = &karpenterv1alpha5.MachineTemplateRef{Kind: "AWSNodeTemplate", Name: "x"}
	for _, m := range []*karpenterv1alpha5.Machine{cpu, aws} {
		require.NoError(t, f.Client.Create(t.Context(), m))
		before := f.writes
		f.settle(m.Name)
		assert.Equal(t, before, f.writes)
		assert.Nil(t, f.claim(m.Name))
	}
}
