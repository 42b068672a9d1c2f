// SPDX-License-Identifier: Apache-2.0

package scale_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
)

// The bars.
const (
	maxPools        = 20
	maxCallsPerNode = 3.0
	barsFrom        = 200
)

// journey bounds a phase; 500 Nodes take minutes on two cores.
const journey = 20 * eventually.Long

// mix is what is asked for: sizes in turn.
type mix struct {
	name  string
	sizes []string
}

func TestManyMachinesOfOneKindAndOfFive(t *testing.T) {
	var phases []measured
	defer func() { t.Log("\n" + report(phases)) }()
	cases := []mix{
		{"one kind", []string{"Standard_NC24ads_A100_v4"}},
		{
			"five kinds",
			[]string{
				"Standard_NC24ads_A100_v4",
				"Standard_NC4as_T4_v3",
				"Standard_NC40ads_H100_v5",
				"Standard_NV36ads_A10_v5",
				"Standard_NC6s_v3",
			},
		},
	}
	if *number < barsFrom {
		cases = cases[1:] // what a few of one kind cost, package provisioner shows
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			// One call of each kind is refused, to test the retry even if the client never exceeds a limit.
			made := measure(t, tc.name+", made", map[string]int{"putPool": 2, "operation": 5, "listMachines": 4}, func() {
				create(t, tc.sizes)
				wait(t, "every Machine is Ready", func() bool { return ready(t) == *number })
			})
			phases = append(phases, made)
			machines := 0
			for _, pool := range shared.Azure.State().Pools {
				machines += len(pool.Machines)
			}
			assert.Equal(t, *number, machines, "a machine for each, and no more")
			assert.LessOrEqual(t, made.pools, maxPools, "agent pools")
			assert.LessOrEqual(
				t, made.calls["putPool"], made.pools+*number/5,
				"a PUT serves many Machines, however slowly the API server lets them come",
			)

			gone := measure(t, tc.name+", deleted", map[string]int{"deletePool": 1, "operation": 5, "getCluster": 7}, func() {
				remove(t)
				wait(t, "every Machine and every agent pool is gone", func() bool {
					return count(t) == 0 && len(shared.Azure.State().Pools) == 0
				})
			})
			phases = append(phases, gone)
		})
	}
}

// measure runs a phase and holds it to the bars.
func measure(t *testing.T, name string, refusals map[string]int, phase func()) measured {
	t.Helper()
	shared.record.phase(refusals)
	start := time.Now()
	phase()
	m := measured{
		name:      name,
		wall:      time.Since(start),
		calls:     shared.record.calls(),
		throttled: shared.record.throttled(),
		pools:     len(shared.Azure.State().Pools),
	}
	assert.GreaterOrEqual(t, m.throttled, len(refusals), "every refusal was met")
	assert.Empty(t, shared.record.impatient(), "a 429 is answered by waiting")
	t.Log("\n" + report([]measured{m})) // a run of an hour shows what it has so far
	if *number >= barsFrom {
		assert.LessOrEqual(t, m.perNode(), maxCallsPerNode, "ARM calls a node")
	}
	return m
}

// create asks for the Machines as fast as the API server takes them.
func create(t *testing.T, sizes []string) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range *number {
		group.Go(func() error { return shared.Client.Create(ctx, machine(i, sizes[i%len(sizes)])) })
	}
	require.NoError(t, group.Wait())
}

func machine(i int, size string) *karpenterv1alpha5.Machine {
	in := func(key, value string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}
	}
	return &karpenterv1alpha5.Machine{
		ObjectMeta: metav1.ObjectMeta{
			Name:   fmt.Sprintf("ws%d", i),
			Labels: map[string]string{karpenterv1alpha5.LabelProvisionerName: "default"},
		},
		Spec: karpenterv1alpha5.MachineSpec{
			Taints: []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}},
			Requirements: []corev1.NodeSelectorRequirement{
				in(corev1.LabelInstanceTypeStable, size),
				in(karpenterv1alpha5.LabelCapacityType, "on-demand"),
				in(corev1.LabelOSStable, "linux"),
				in(corev1.LabelArchStable, "amd64"),
				in("kaito.sh/machine-type", "gpu"),
			},
			Resources: karpenterv1alpha5.ResourceRequirements{
				Requests: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")},
			},
		},
	}
}

// remove deletes one by one: a collection of hundreds takes a busy API server longer than a request may.
func remove(t *testing.T) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range *number {
		group.Go(func() error { return shared.Client.Delete(ctx, machine(i, "")) })
	}
	require.NoError(t, group.Wait())
}

func list(t *testing.T) []karpenterv1alpha5.Machine {
	var machines karpenterv1alpha5.MachineList
	// Of the API server's cache: what is asked for often may be a moment old.
	err := shared.Client.List(
		context.WithoutCancel(t.Context()), &machines, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}},
	)
	if err != nil {
		return nil
	}
	return machines.Items
}

// ready counts the Machines that are registered, initialized and Ready.
func ready(t *testing.T) int {
	n := 0
	for _, m := range list(t) {
		if c := m.GetCondition(karpenterv1alpha5.ConditionReady); c != nil && c.Status == corev1.ConditionTrue &&
			m.Status.NodeName != "" {
			n++
		}
	}
	return n
}

func count(t *testing.T) int { return len(list(t)) }

func wait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.Health())
		assert.True(c, condition())
	}, journey, eventually.Look, "%s\n%s", what, tail{})
}

// tail is the operator's log, read only when a wait has failed.
type tail struct{}

func (tail) String() string { return shared.OperatorLog(stack.GPUProvisioner) }
