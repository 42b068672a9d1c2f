// SPDX-License-Identifier: Apache-2.0

package placement_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/workspace-operator/internal/placement"
)

var request = placement.Request{
	Name: "phi", Namespace: "ns", UID: "6b1f", Ordinal: 1, Attempt: 2,
	InstanceType: "Standard_NC6s_v3", CapacityType: kaitov1alpha1.CapacitySpot, GPUs: 1, DiskGiB: 75,
	Labels: map[string]string{"app": "phi", kaitov1alpha1.LabelWorkspaceUID: "another"},
}

func TestNamesAreDeterministicDistinctAndValid(t *testing.T) {
	t.Parallel()
	strictest := regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)
	seen := map[string]bool{}
	for _, uid := range []types.UID{"a", "b", "6b1f5c1e-7c7e-4a52-9c59-0a2c4c5a2d11"} {
		for ordinal := range 20 {
			for attempt := range 12 {
				name := placement.Name(uid, ordinal, attempt)
				assert.Equal(t, name, placement.Name(uid, ordinal, attempt))
				assert.Regexp(t, strictest, name)
				assert.False(t, seen[name], "%s/%d/%d", uid, ordinal, attempt)
				seen[name] = true
			}
		}
	}
}

func TestAMachineIsWhatTheContractSays(t *testing.T) {
	t.Parallel()
	m, ok := placement.Machines{}.Build(request).(*karpenterv1alpha5.Machine)
	require.True(t, ok)
	assert.Equal(t, map[string]string{
		"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "ns", "kaito.sh/workspace-uid": "6b1f", "app": "phi",
		"karpenter.sh/provisioner-name": "default",
	}, m.Labels, "a selector must not take over the identity")
	assert.Equal(t, map[string][]string{
		"node.kubernetes.io/instance-type": {"Standard_NC6s_v3"}, "karpenter.sh/capacity-type": {"spot"},
		"kubernetes.io/os": {"linux"}, "kubernetes.io/arch": {"amd64"}, "kaito.sh/machine-type": {"gpu"},
	}, requirements(m.Spec.Requirements))
	assert.Equal(t, "1", m.Spec.Resources.Requests.Name("nvidia.com/gpu", "").String())
	assert.Equal(t, "75Gi", m.Spec.Resources.Requests.StorageEphemeral().String())
	assert.NotContains(t, m.Spec.Resources.Requests, corev1.ResourceStorage, "no node reports it")
	assert.Equal(t, []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}}, m.Spec.Taints)
}

func TestANodeClaimIsWhatTheContractSays(t *testing.T) {
	t.Parallel()
	class, err := placement.ParseClass("karpenter.kwok.sh/KWOKNodeClass/fake")
	require.NoError(t, err)
	c, ok := placement.NodeClaims{Class: class}.Build(request).(*karpv1.NodeClaim)
	require.True(t, ok)
	assert.Equal(t, placement.Machines{}.Build(request).GetName(), c.Name)
	assert.NotContains(t, c.Labels, "karpenter.sh/provisioner-name")
	assert.Equal(t, "true", c.Annotations["karpenter.sh/do-not-disrupt"])
	assert.Nil(t, c.Spec.ExpireAfter.Duration)
	assert.Equal(
		t, &karpv1.NodeClassReference{Group: "karpenter.kwok.sh", Kind: "KWOKNodeClass", Name: "fake"}, c.Spec.NodeClassRef,
	)
	got := map[string][]string{}
	for _, r := range c.Spec.Requirements {
		assert.Equal(t, corev1.NodeSelectorOpIn, r.Operator)
		got[r.Key] = r.Values
	}
	assert.Equal(t, map[string][]string{
		"node.kubernetes.io/instance-type": {"Standard_NC6s_v3"}, "karpenter.sh/capacity-type": {"spot"},
		"kubernetes.io/os": {"linux"}, "kubernetes.io/arch": {"amd64"},
	}, got)
}

func TestBothKindsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for _, api := range []placement.API{placement.Machines{}, placement.NodeClaims{}} {
		t.Run(api.Kind(), func(t *testing.T) {
			t.Parallel()
			c := api.Read(api.Build(request))
			assert.Equal(t, 1, c.Ordinal)
			assert.Equal(t, 2, c.Attempt)
			assert.EqualValues(t, 1, c.GPUs)
			assert.Equal(t, "Standard_NC6s_v3", c.InstanceType)
			assert.Equal(t, kaitov1alpha1.CapacitySpot, c.CapacityType)
			assert.False(t, c.Acknowledged)
		})
	}
}

func TestAClassThatCannotBeMeantIsRefusedWithAnExample(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "default", "kaito.sh/KaitoNodeClass", "kaito.sh//default", "a/b/c/d"} {
		_, err := placement.ParseClass(text)
		assert.ErrorContains(t, err, "kaito.sh/KaitoNodeClass/default", text)
	}
}

func requirements(in []corev1.NodeSelectorRequirement) map[string][]string {
	out := map[string][]string{}
	for _, r := range in {
		if r.Operator == corev1.NodeSelectorOpIn {
			out[r.Key] = r.Values
		}
	}
	return out
}
