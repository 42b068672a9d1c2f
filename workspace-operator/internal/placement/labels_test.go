// SPDX-License-Identifier: Apache-2.0

package placement_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kubeletapis "k8s.io/kubelet/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
)

func requestWith(key, value string) placement.Request {
	return placement.Request{
		InstanceType: "Standard_NC6s_v3",
		CapacityType: kaitov1alpha1.CapacityOnDemand,
		Labels:       map[string]string{key: value},
	}
}

func TestReservedLabelsAreRefusedForNewNodes(t *testing.T) {
	t.Parallel()
	keys := []string{
		"kubernetes.io/hostname",
		"node-restriction.kubernetes.io/trusted",
		"node-role.kubernetes.io/control-plane",
		"topology.kubernetes.io/zone",
		"topology.kubernetes.io/region",
		"kubernetes.azure.com/agentpool",
		"kubernetes.azure.com/mode",
		"karpenter.sh/nodepool",
		"compatibility.karpenter.sh/provider",
		"karpenter.azure.com/sku-name",
		"node.kubernetes.io/exclude-from-external-load-balancers",
		"kubelet.kubernetes.io/x",
		"beta.kubernetes.io/os",
		"app.kubernetes.io/name",
		"k8s.io/x",
	}
	// Entries that later versions of these lists add are refused, too.
	keys = append(append(keys, kubeletapis.KubeletLabels()...), karpv1.WellKnownLabels.UnsortedList()...)
	for _, key := range keys {
		err := placement.CheckLabels(requestWith(key, "evil"))
		require.Error(t, err, key)
		assert.Contains(t, err.Error(), `resource.labelSelector.matchLabels[`+key+`] is "evil"`)
		assert.Contains(t, err.Error(), "resource.provisioning to Never")
	}
}

func TestLabelsOfOnesOwnAreAllowedForNewNodes(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]string{
		"apps": "llm", "example.com/team": "a", "kubernetes": "x", "mykubernetes.io/x": "y", "kaito.sh/custom": "1", "cluster.x-k8s.io/x": "y",
		// What the size says anyway.
		"node.kubernetes.io/instance-type": "Standard_NC6s_v3", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
	} {
		assert.NoError(t, placement.CheckLabels(requestWith(key, value)), key)
	}
}

func TestWhatCannotBeALabelIsRefused(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]string{"a b": "c", "a": "b c", "/x": "y", "A/b/c": "d"} {
		assert.ErrorContains(t, placement.CheckLabels(requestWith(key, value)), "it can't be a label", key)
	}
}
