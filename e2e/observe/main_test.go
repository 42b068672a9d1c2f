// SPDX-License-Identifier: Apache-2.0

// Package observe_test looks at the gpu-provisioner as people, Prometheus and Azure see it: its readiness, its metrics,
// the rules and the dashboard that are made of them, and the agent pools that it asks for. The built binary runs with
// the rights of its own service account on a real API server and a fake Azure.
package observe_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
)

const (
	root = "../.."
	a100 = "Standard_NC24ads_A100_v4"
	t4   = "Standard_NC4as_T4_v3"
	// journey bounds what passes through Karpenter's core, which drains for five seconds and asks every five, and through
	// Azure.
	journey = 2 * eventually.Long
)

// shared is the stack of all tests, which run one after another; each leaves it empty.
var shared struct {
	*stack.Stack
	lived bool // see live
}

// flags are the operator's: its defaults are for an Azure that takes minutes.
var flags = []string{
	"--gather=200ms",
	"--surplus-grace=3s",
	"--refresh-active=1s",
	"--refresh-idle=3s",
	"--node-join-timeout=30s",
	"--gpu-ready-timeout=3s",
	"--metrics-secure=false",
	"--azure-call-rate=100", // and no limit on the other side: package scale is about limits
}

func TestMain(m *testing.M) {
	os.Exit(stacktest.Main(m, stack.Options{
		Operators: []stack.Operator{stack.GPUProvisioner},
		Args:      map[stack.Operator][]string{stack.GPUProvisioner: append([]string{"--leader-elect=false"}, flags...)},
		Azure:     func(o *fakeazure.Options) { o.Limits.Off = true },
	}, func(s *stack.Stack) { shared.Stack = s }))
}

// machine asks for a node as the workspace-operator does.
func machine(name, size string, change ...func(*karpenterv1alpha5.Machine)) *karpenterv1alpha5.Machine {
	in := func(key, value string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}
	}
	m := &karpenterv1alpha5.Machine{
		ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{karpenterv1alpha5.LabelProvisionerName: "default"},
		},
		Spec: karpenterv1alpha5.MachineSpec{
			Taints: []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}},
			Requirements: []corev1.NodeSelectorRequirement{
				in(corev1.LabelInstanceTypeStable, size), in(corev1.LabelOSStable, "linux"), in(corev1.LabelArchStable, "amd64"),
				in("kaito.sh/machine-type", "gpu"),
			},
			Resources: karpenterv1alpha5.ResourceRequirements{
				Requests: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")},
			},
		},
	}
	for _, c := range change {
		c(m)
	}
	return m
}

func ask(t *testing.T, machines ...*karpenterv1alpha5.Machine) {
	t.Helper()
	for _, m := range machines {
		require.NoError(t, shared.Client.Create(t.Context(), m))
	}
}

// condition waits until a Machine's condition is as it is wanted.
func condition(t *testing.T, name, conditionType string, status corev1.ConditionStatus, reason string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		m := &karpenterv1alpha5.Machine{}
		require.NoError(c, shared.Client.Get(t.Context(), client.ObjectKey{Name: name}, m))
		got := m.GetCondition(conditionType)
		require.NotNil(c, got)
		assert.Equal(c, status, got.Status, got.Message)
		if reason != "" {
			assert.Equal(c, reason, got.Reason, got.Message)
		}
	}, journey, eventually.StoryTick)
}

func ready(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		condition(t, name, karpenterv1alpha5.ConditionReady, corev1.ConditionTrue, "")
	}
}

// empty gives everything back and waits until it is gone.
func empty(t *testing.T) {
	t.Helper()
	require.NoError(t, shared.Client.DeleteAllOf(t.Context(), &karpenterv1alpha5.Machine{}))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var machines karpenterv1alpha5.MachineList
		require.NoError(c, shared.Client.List(t.Context(), &machines))
		assert.Empty(c, machines.Items)
		assert.Empty(c, shared.Azure.State().Pools)
	}, journey, eventually.StoryTick)
}

// pool is an agent pool as it came over the wire.
type pool struct {
	Properties map[string]any    `json:"properties"`
	Tags       map[string]string `json:"tags"`
	Count      int               `json:"count"`
}

// cloud is what the fake Azure keeps on its disk.
type cloud struct {
	Pools  map[string]pool      `json:"pools"`
	Tokens map[string]time.Time `json:"tokens"`
}

func kept(t *testing.T) cloud {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(shared.Azure.Options().Dir, "state.json"))
	require.NoError(t, err)
	var c cloud
	require.NoError(t, json.Unmarshal(raw, &c))
	return c
}

// clusterUID is the tag by which this cluster's pools are known.
func clusterUID(t *testing.T) string {
	t.Helper()
	namespace := &corev1.Namespace{}
	require.NoError(t, shared.Client.Get(t.Context(), client.ObjectKey{Name: metav1.NamespaceSystem}, namespace))
	return string(namespace.UID)
}
