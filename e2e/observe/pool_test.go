// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/test/eventually"
)

// One row for each thing that a KaitoNodeClass or a Machine can say of a node: what it is on the wire.
func TestWhatAClassAndAMachineSayReachesTheAgentPool(t *testing.T) {
	type (
		class = nodeclassv1alpha1.KaitoNodeClassSpec
		asked = karpenterv1alpha5.Machine
	)
	requiring := func(key, value string) func(*asked) {
		return func(m *asked) {
			m.Spec.Requirements = append(
				m.Spec.Requirements,
				corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}},
			)
		}
	}
	spot := requiring("karpenter.sh/capacity-type", "spot")
	disk := func(name, size string) func(*asked) {
		return func(m *asked) { m.Spec.Resources.Requests[corev1.ResourceName(name)] = resource.MustParse(size) }
	}
	const (
		subnet      = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/gpu"
		reservation = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/capacityReservationGroups/crg"
	)
	rows := []struct {
		name    string
		class   class
		machine func(*asked)
		want    map[string]any // nil: not there
	}{
		{
			"nothing",
			class{},
			nil,
			map[string]any{
				"scaleSetPriority":           "Regular",
				"scaleSetEvictionPolicy":     nil,
				"availabilityZones":          nil,
				"osType":                     "Linux",
				"osSKU":                      "Ubuntu",
				"osDiskSizeGB":               128.0,
				"osDiskType":                 "Managed",
				"gpuProfile":                 map[string]any{"driver": "Install"},
				"gpuInstanceProfile":         nil,
				"mode":                       "User",
				"scaleDownMode":              "Delete",
				"enableAutoScaling":          false,
				"nodeTaints":                 []any{"sku=gpu:NoSchedule"},
				"maxPods":                    nil,
				"vnetSubnetID":               nil,
				"capacityReservationGroupID": nil,
			},
		},
		{
			"spot",
			class{},
			spot,
			map[string]any{"scaleSetPriority": "Spot", "scaleSetEvictionPolicy": "Delete", "spotMaxPrice": nil},
		},
		{"spot-price", class{SpotMaxPrice: "1.5"}, spot, map[string]any{"scaleSetPriority": "Spot", "spotMaxPrice": 1.5}},
		{"spot-any-price", class{SpotMaxPrice: "-1"}, spot, map[string]any{"spotMaxPrice": -1.0}},
		{
			"price-without-spot",
			class{SpotMaxPrice: "1.5"},
			nil,
			map[string]any{"scaleSetPriority": "Regular", "spotMaxPrice": nil},
		},
		{"zone-of-class", class{Zones: []string{"2"}}, nil, map[string]any{"availabilityZones": []any{"2"}}},
		{
			"zone-of-machine",
			class{},
			requiring(corev1.LabelTopologyZone, "eastus-3"),
			map[string]any{"availabilityZones": []any{"3"}},
		},
		{
			"mig",
			class{},
			func(m *asked) { m.Labels["kaito.sh/mig-profile"] = "MIG1g" },
			map[string]any{"gpuInstanceProfile": "MIG1g"},
		},
		{
			"driver-none",
			class{GPUDriver: nodeclassv1alpha1.GPUDriverNone},
			nil,
			map[string]any{"gpuProfile": map[string]any{"driver": "None"}},
		},
		{
			"driver-install",
			class{GPUDriver: nodeclassv1alpha1.GPUDriverInstall},
			nil,
			map[string]any{"gpuProfile": map[string]any{"driver": "Install"}},
		},
		{
			"azure-linux",
			class{ImageFamily: nodeclassv1alpha1.ImageFamilyAzureLinux},
			nil,
			map[string]any{"osType": "Linux", "osSKU": "AzureLinux"},
		},
		{
			"disk-of-class",
			class{OSDiskSizeGiB: ptr.To[int32](512)},
			disk("ephemeral-storage", "900Gi"),
			map[string]any{"osDiskSizeGB": 512.0},
		},
		{"disk-of-machine", class{}, disk("ephemeral-storage", "300Gi"), map[string]any{"osDiskSizeGB": 300.0}},
		{"disk-as-kaito", class{}, disk("storage", "400Gi"), map[string]any{"osDiskSizeGB": 400.0}},
		{"disk-type", class{OSDiskType: nodeclassv1alpha1.OSDiskEphemeral}, nil, map[string]any{"osDiskType": "Ephemeral"}},
		{"subnet", class{SubnetID: subnet}, nil, map[string]any{"vnetSubnetID": subnet}},
		{"max-pods", class{MaxPods: ptr.To[int32](30)}, nil, map[string]any{"maxPods": 30.0}},
		{
			"reservation",
			class{CapacityReservationGroupID: reservation},
			nil,
			map[string]any{"capacityReservationGroupID": reservation},
		},
		{"taints", class{}, func(m *asked) {
			m.Spec.Taints = append(m.Spec.Taints, corev1.Taint{Key: "team", Value: "ml", Effect: corev1.TaintEffectNoExecute})
		}, map[string]any{"nodeTaints": []any{"sku=gpu:NoSchedule", "team=ml:NoExecute"}}},
	}
	for _, row := range rows {
		spec := row.class
		spec.Tags = map[string]string{"row": row.name} // users' tags, by which the pool is found
		require.NoError(
			t,
			shared.Client.Create(
				t.Context(), &nodeclassv1alpha1.KaitoNodeClass{ObjectMeta: metav1.ObjectMeta{Name: row.name}, Spec: spec},
			),
		)
		m := machine("m-"+row.name, t4)
		m.Spec.MachineTemplateRef = &karpenterv1alpha5.MachineTemplateRef{Kind: "KaitoNodeClass", Name: row.name}
		if row.machine != nil {
			row.machine(m)
		}
		ask(t, m)
	}
	pools := map[string]pool{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		for _, p := range kept(t).Pools {
			pools[p.Tags["row"]] = p
		}
		assert.Len(c, pools, len(rows), "a pool of its own each")
	}, journey, eventually.StoryTick)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			p := pools[row.name]
			assert.Equal(t, t4, p.Properties["vmSize"])
			for property, want := range row.want {
				assert.Equal(t, want, p.Properties[property], property)
			}
			assert.Equal(t, "gpu-provisioner", p.Tags["kaito.sh_managed-by"])
			assert.NotEmpty(t, p.Tags["kaito.sh_pool-key"])
			assert.Equal(t, clusterUID(t), p.Tags["kaito.sh_cluster-uid"])
		})
	}
	for _, row := range rows {
		if row.name != "driver-none" && row.name != "mig" { // no driver, no GPU; and KWOK's nodes have no partitions
			ready(t, "m-"+row.name)
		}
	}
	empty(t)
	require.NoError(t, shared.Client.DeleteAllOf(t.Context(), &nodeclassv1alpha1.KaitoNodeClass{}))
	require.NoError(
		t,
		shared.Client.Create(t.Context(), &nodeclassv1alpha1.KaitoNodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}}),
	)
}
