// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
)

// TestOperationsFitAConfigMap has more machines than AKS allows in a cluster, 5,000
// (https://learn.microsoft.com/azure/aks/quotas-skus-regions), in the maximum number of pools.
func TestOperationsFitAConfigMap(t *testing.T) {
	f := newFixture(t)
	operations := map[string]Operation{}
	for p := range 100 {
		op := Operation{
			Handle:  azure.Handle{Kind: azure.OperationDeleteMachines, Pool: Name(keyA, p), Token: fmt.Sprintf("%01500d", p)},
			Key:     keyA,
			Started: start,
		}
		for m := range 60 {
			op.Machines = append(op.Machines, azuretest.ProviderID(op.Pool, 100_000+m))
		}
		operations[op.Pool] = op
	}
	require.NoError(t, Save(t.Context(), f.Operations, operations))
	cm := &corev1.ConfigMap{}
	require.NoError(t, f.client.Get(t.Context(), client.ObjectKey{Namespace: "kaito", Name: OperationsConfigMap}, cm))
	size := 0
	for key, value := range cm.Data {
		size += len(key) + len(value)
	}
	t.Logf("%d bytes", size)
	assert.Less(t, size, 1<<20, "the most that a ConfigMap holds")
	loaded, err := Load[Operation](t.Context(), f.Operations)
	require.NoError(t, err)
	assert.Equal(t, operations, loaded)
}

func TestRecordOfAnEarlierReleaseIsRead(t *testing.T) {
	f := newFixture(t)
	require.NoError(
		t,
		Save(
			t.Context(), f.Operations,
			map[string]map[string]any{"p": {"kind": "deleteMachines", "machines": []string{"a", "b"}}},
		),
	)
	loaded, err := Load[Operation](t.Context(), f.Operations)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, []string(loaded["p"].Machines))
}

func TestFailedSaveIsRetried(t *testing.T) {
	f := newFixture(t)
	full := errors.New("the server is full")
	f.Operations.Writer = interceptor.NewClient(f.client.(client.WithWatch), interceptor.Funcs{
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error { return full },
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return full },
	})
	f.ask("c1")
	f.gathered()
	_, err := f.Pass(t.Context())
	require.ErrorIs(t, err, full)
	require.Len(t, f.azure.Calls(), 1)
	_, err = f.Pass(t.Context())
	require.ErrorIs(t, err, full, "still")

	f.Operations.Writer = f.client
	_, err = f.Pass(t.Context())
	require.NoError(t, err)
	loaded, err := Load[Operation](t.Context(), f.Operations)
	require.NoError(t, err)
	assert.Len(t, loaded, 1, "also without a change since")
	writes := f.writes
	_, err = f.Pass(t.Context())
	require.NoError(t, err)
	assert.Equal(t, writes, f.writes, "once")
}
