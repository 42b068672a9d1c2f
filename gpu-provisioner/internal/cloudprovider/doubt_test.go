// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"

	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
	"kaito.sh/gpu-provisioner/internal/pool"
)

func TestCoreKeepsClaimsOfMachinesThatMayRun(t *testing.T) {
	f := newFixture()
	unlisted := azuretest.ProviderID("gaaaaaaaa0", 7)
	c := claim(nil)
	c.Status.ProviderID = unlisted
	c.DeletionTimestamp = &metav1.Time{Time: now.Add(-time.Second)}
	require.True(t, corecloud.IsNodeClaimNotFoundError(f.Delete(t.Context(), c)), "nothing speaks for it")

	f.engine.doubts = pool.NewDoubts(
		now, map[string]pool.Doubt{"gaaaaaaaa0": {Message: "the list is wrong", Machines: []string{unlisted}}},
	)
	require.NoError(t, f.Delete(t.Context(), c), "core keeps the finalizer")
	_, err := f.Get(t.Context(), unlisted)
	require.ErrorContains(t, err, "the list is wrong")
	assert.False(t, corecloud.IsNodeClaimNotFoundError(err))
	_, err = f.Get(t.Context(), azuretest.ProviderID("gaaaaaaaa0", 8))
	assert.True(t, corecloud.IsNodeClaimNotFoundError(err), "nothing speaks for another machine of the pool")
	got, err := f.List(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.Equal(t, unlisted, got[1].Status.ProviderID)
	assert.Equal(t, size, got[1].Labels["node.kubernetes.io/instance-type"])
}
