// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
)

// idle nodes of a size.
func idle(n int, size, gpus string) []corev1.Node {
	var out []corev1.Node
	for i := range n {
		out = append(out, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name:   fmt.Sprintf("%s-%d", size, i),
				Labels: map[string]string{corev1.LabelInstanceTypeStable: size},
			},
			Status: corev1.NodeStatus{
				Allocatable: corev1.ResourceList{kaitov1alpha1.ResourceNvidiaGPU: resource.MustParse(gpus)},
			},
		})
	}
	return out
}

func TestExistingNodesAreCountedBeforeTheyAreChosen(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	require.NoError(t, err)
	// 214 GiB, which one node with two A100s of 80 GB can't hold, and two can.
	request := func(nodes []corev1.Node, change func(*kaitov1alpha1.ResourceSpec)) Request {
		w := &kaitov1alpha1.Workspace{
			Resource: kaitov1alpha1.ResourceSpec{
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			},
			Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "minimax-m2.7"}},
		}
		if change != nil {
			change(&w.Resource)
		}
		r := ForWorkspace(w, false, "", "", "")
		r.Existing, r.OnlyExisting = nodes, w.Resource.Provisioning == kaitov1alpha1.ProvisioningNever
		return r
	}
	const pair, single, eight = "Standard_NC48ads_A100_v4", "Standard_NC24ads_A100_v4", "Standard_ND96amsr_A100_v4"
	for _, test := range []struct {
		name  string
		nodes []corev1.Node
		with  func(*kaitov1alpha1.ResourceSpec)
		size  string
		count int
	}{
		{"two idle nodes hold it together", idle(2, pair, "2"), nil, pair, 2},
		{"one idle node does not, so a size that holds it on one node is asked for", idle(1, pair, "2"), nil, "", 1},
		{"of two kinds of idle nodes the one is taken that is enough", append(idle(1, single, "1"), idle(1, eight, "8")...), nil, eight, 1},
		{"the user's count bounds idle nodes too", idle(2, pair, "2"), func(r *kaitov1alpha1.ResourceSpec) { r.Count = ptr.To[int32](1) }, "", 1},
		{"bring your own: what is missing is counted from the size that is there", idle(1, pair, "2"), func(r *kaitov1alpha1.ResourceSpec) { r.Provisioning = kaitov1alpha1.ProvisioningNever }, pair, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, err := Make(request(test.nodes, test.with), c, vllm.Engine{})
			require.NoError(t, err)
			if test.size != "" {
				assert.Equal(t, test.size, p.InstanceType)
			} else {
				assert.NotEqual(t, pair, p.InstanceType)
			}
			assert.Equal(t, test.count, p.Nodes)
		})
	}
}

func TestAnAliasOfASizeFindsTheNodesThatAreThere(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	require.NoError(t, err)
	p, err := Make(Request{
		Mode: ModeInference, Preset: "minimax-m2.7", InstanceTypes: []string{"Standard_ND96asr_A100_v4"},
		Existing: idle(1, "Standard_ND96asr_v4", "8"),
	}, c, vllm.Engine{})
	require.NoError(t, err)
	assert.Equal(t, "Standard_ND96asr_v4", p.InstanceType)
	assert.False(t, p.Priced, "nodes that are there cost nothing")
}

func TestSizeOfAnUnknownNodeIsWhatCUDACanUse(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	require.NoError(t, err)
	n := idle(1, "", "1")[0]
	for key, value := range map[string]string{labelGPUProduct: "Tesla-V100-PCIE-16GB", labelGPUMemory: "16384", labelGPUMajor: "7", labelGPUMinor: "0"} {
		n.Labels[key] = value
	}
	size, known := SizeOf(&n, c)
	require.True(t, known)
	assert.LessOrEqual(t, size.DeviceGiB, 15.77, "what CUDA reports of this very GPU: more would overcommit it")
	assert.Greater(t, size.DeviceGiB, 15.5)
}
