// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/audit"
	"kaito.sh/workspace-operator/internal/configfile"
)

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Each of these ConfigMaps was cached whole before: 60 of 1 MB took 59 MiB.
func TestUnreferencedConfigMapsCostNoMemory(t *testing.T) {
	namespace := newNamespace(t)
	const n, size = 20, 900_000
	for i := range n {
		create(
			t,
			configMap(
				namespace, fmt.Sprintf("big-%d", i), map[string]string{"inference_config.yaml": strings.Repeat("#", size)},
			),
		)
	}
	before := heap()
	start(t, options())
	w := inferenceWorkspace(namespace, "model")
	create(t, w)
	eventuallyMachines(t, w, 1)
	grown := int64(heap()) - int64(before)
	released(t, w)
	t.Logf("the heap grew by %d KiB for %d KiB of ConfigMaps", grown>>10, n*size>>10)
	assert.Less(t, grown, int64(n*size/2))
}

func TestAConfigMapAboveTheLimitIsRefused(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	create(
		t,
		configMap(
			namespace, "config",
			map[string]string{"inference_config.yaml": "vllm: {max-num-seqs: 8}\n" + strings.Repeat("#", configfile.MaxBytes)},
		),
	)
	w := inferenceWorkspace(namespace, "model")
	w.Inference.Config = "config"
	create(t, w)
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonInvalidConfig)
	})
	assert.Contains(
		t, meta.FindStatusCondition(got.Status.Conditions, kaitov1alpha1.ConditionStalled).Message,
		"at most 131072 are allowed",
	)
	assert.Empty(t, machinesOf(t, w))
}

func TestAConfigMapIsReadOnceForEachVersion(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	create(t, configMap(namespace, "config", map[string]string{"inference_config.yaml": "vllm: {max-num-seqs: 8}"}))
	since := mark(t)
	w := inferenceWorkspace(namespace, "model")
	w.Inference.Config = "config"
	create(t, w)
	machine := eventuallyMachines(t, w, 1)[0]
	launch(t, &machine, "1") // several passes
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
	reads, err := shared.audit.Requests(since, audit.User(operatorUser), audit.Verb("get"), audit.Resource("configmaps"))
	require.NoError(t, err)
	assert.Len(t, reads, 1, audit.Table(reads))
}
