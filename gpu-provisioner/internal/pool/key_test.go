// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
)

func in(key string, values ...string) karpv1.NodeSelectorRequirementWithMinValues {
	return karpv1.NodeSelectorRequirementWithMinValues{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
}

func claimWith(requirements ...karpv1.NodeSelectorRequirementWithMinValues) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{}
	c.Spec.Requirements = append([]karpv1.NodeSelectorRequirementWithMinValues{
		in(corev1.LabelOSStable, "linux"), in(corev1.LabelArchStable, "amd64"), in("kaito.sh/machine-type", "gpu"),
	}, requirements...)
	return c
}

var ubuntu = Class{Name: "default", ImageFamily: "Ubuntu", OSDiskType: "Managed", InstallGPUDriver: true}

func TestPlacementsFollowTheOrderThatTheClaimNames(t *testing.T) {
	class := ubuntu
	class.Zones = []string{"2", "1"}
	keys, err := Placements(
		claimWith(in(corev1.LabelInstanceTypeStable, "B", "A"), in(karpv1.CapacityTypeLabelKey, "spot", "on-demand")), class,
		"eastus",
	)
	require.NoError(t, err)
	var got []string
	for _, k := range keys {
		got = append(got, k.Size+"/"+k.CapacityType+"/"+k.Zone)
	}
	assert.Equal(
		t,
		[]string{
			"B/spot/2",
			"B/spot/1",
			"B/on-demand/2",
			"B/on-demand/1",
			"A/spot/2",
			"A/spot/1",
			"A/on-demand/2",
			"A/on-demand/1",
		},
		got,
	)
}

func TestZonesAreNumbersOfTheClassThatTheClaimAllows(t *testing.T) {
	size := in(corev1.LabelInstanceTypeStable, "A")
	for name, tc := range map[string]struct {
		class []string
		claim []string
		want  []string
	}{
		"regional":                      {nil, nil, []string{""}},
		"the class's":                   {[]string{"1", "2"}, nil, []string{"1", "2"}},
		"the claim's":                   {nil, []string{"eastus-3"}, []string{"3"}},
		"both":                          {[]string{"1", "2"}, []string{"eastus-2", "eastus-3"}, []string{"2"}},
		"both, the claim naming digits": {[]string{"1", "2"}, []string{"2"}, []string{"2"}},
		"nothing in common":             {[]string{"1"}, []string{"eastus-3"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			class := ubuntu
			class.Zones = tc.class
			claim := claimWith(size)
			if tc.claim != nil {
				claim = claimWith(size, in(corev1.LabelTopologyZone, tc.claim...))
			}
			keys, err := Placements(claim, class, "eastus")
			if tc.want == nil {
				var refused *RequestError
				require.ErrorAs(t, err, &refused)
				return
			}
			require.NoError(t, err)
			var got []string
			for _, k := range keys {
				got = append(got, k.Zone)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestInvalidRequirementIsNamed(t *testing.T) {
	size := in(corev1.LabelInstanceTypeStable, "A")
	for name, tc := range map[string]struct {
		claim *karpv1.NodeClaim
		want  string
	}{
		"no size":           {claimWith(), corev1.LabelInstanceTypeStable},
		"windows":           {&karpv1.NodeClaim{Spec: karpv1.NodeClaimSpec{Requirements: []karpv1.NodeSelectorRequirementWithMinValues{size, in(corev1.LabelOSStable, "windows")}}}, corev1.LabelOSStable},
		"reserved machines": {claimWith(size, in(karpv1.CapacityTypeLabelKey, "reserved")), karpv1.CapacityTypeLabelKey},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Placements(tc.claim, ubuntu, "eastus")
			require.Error(t, err)
			assert.Contains(t, err.Error(), tc.want)
		})
	}
}

func TestClaimsWithTheSameKeyShareAPool(t *testing.T) {
	key := func(change func(*karpv1.NodeClaim, *Class)) string {
		claim, class := claimWith(in(corev1.LabelInstanceTypeStable, "A")), ubuntu
		claim.Spec.Taints = []corev1.Taint{
			{Key: "sku", Value: "gpu", Effect: "NoSchedule"},
			{Key: "a", Value: "b", Effect: "NoExecute"},
		}
		if change != nil {
			change(claim, &class)
		}
		keys, err := Placements(claim, class, "eastus")
		require.NoError(t, err)
		return keys[0].Hash()
	}
	base := key(nil)
	for name, change := range map[string]func(*karpv1.NodeClaim, *Class){
		"labels": func(c *karpv1.NodeClaim, _ *Class) { c.Labels = map[string]string{"kaito.sh/workspace": "w"} },
		"the order of taints": func(c *karpv1.NodeClaim, _ *Class) {
			c.Spec.Taints[0], c.Spec.Taints[1] = c.Spec.Taints[1], c.Spec.Taints[0]
		},
		"startup taints": func(c *karpv1.NodeClaim, _ *Class) {
			c.Spec.StartupTaints = []corev1.Taint{{Key: "s", Effect: "NoSchedule"}}
		},
		"the pool size's limit": func(_ *karpv1.NodeClaim, k *Class) { k.MaxNodesPerPool = 7 },
	} {
		assert.Equal(t, base, key(change), "%s do not shape the pool", name)
	}
	for name, change := range map[string]func(*karpv1.NodeClaim, *Class){
		"size":   func(c *karpv1.NodeClaim, _ *Class) { c.Spec.Requirements[3] = in(corev1.LabelInstanceTypeStable, "B") },
		"taints": func(c *karpv1.NodeClaim, _ *Class) { c.Spec.Taints = nil },
		"disk":   func(_ *karpv1.NodeClaim, k *Class) { k.OSDiskSizeGiB = 512 },
		"image":  func(_ *karpv1.NodeClaim, k *Class) { k.ImageFamily = "AzureLinux" },
		"driver": func(_ *karpv1.NodeClaim, k *Class) { k.InstallGPUDriver = false },
		"class":  func(_ *karpv1.NodeClaim, k *Class) { k.Name = "other" },
		"tags":   func(_ *karpv1.NodeClaim, k *Class) { k.Tags = map[string]string{"team": "ml"} },
		"mig":    func(c *karpv1.NodeClaim, _ *Class) { c.Labels = map[string]string{LabelMIGProfile: "MIG1g"} },
		"ephemeral storage beyond the least disk": func(c *karpv1.NodeClaim, _ *Class) {
			c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("300Gi")}
		},
		"storage, as KAITO asks for the disk": func(c *karpv1.NodeClaim, _ *Class) {
			c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("300Gi")}
		},
	} {
		assert.NotEqual(t, base, key(change), "%s shape the pool", name)
	}
}

func TestNamesFitAKSAndAreReadBack(t *testing.T) {
	keys, err := Placements(claimWith(in(corev1.LabelInstanceTypeStable, "Standard_NC24ads_A100_v4")), ubuntu, "eastus")
	require.NoError(t, err)
	hash := keys[0].Hash()
	for _, n := range []int{0, 7, 10, 99, 100, 999} {
		name := Name(hash, n)
		assert.Regexp(t, `^[a-z][a-z0-9]{0,11}$`, name)
		got, ok := ordinal(name, hash)
		assert.True(t, ok)
		assert.Equal(t, n, got)
	}
	for _, name := range []string{"g" + hash, "g" + hash + "01", "g" + hash + "x", "nodepool1", "gzzzzzzzz0"} {
		_, ok := ordinal(name, hash)
		assert.False(t, ok, name)
	}
}

func TestSpecHasTheTagsOfThisOperator(t *testing.T) {
	class := ubuntu
	class.Tags = map[string]string{"team": "ml"}
	class.SpotMaxPrice = "1.5"
	keys, err := Placements(
		claimWith(in(corev1.LabelInstanceTypeStable, "A"), in(karpv1.CapacityTypeLabelKey, "spot")), class, "eastus",
	)
	require.NoError(t, err)
	spec := keys[0].Spec(3)
	assert.Equal(
		t, map[string]string{"team": "ml", azure.TagManagedBy: azure.ManagedByValue, azure.TagPoolKey: keys[0].Hash()},
		spec.Tags,
	)
	require.NotNil(t, spec.SpotMaxPrice)
	assert.InDelta(t, 1.5, *spec.SpotMaxPrice, 1e-6)
	assert.Equal(t, 3, spec.Count)
}
