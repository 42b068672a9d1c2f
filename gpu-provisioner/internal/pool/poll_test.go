// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

func TestRunningOperationCostsOnePoll(t *testing.T) {
	f := newFixture(t)
	f.ask("c1", "c2")
	f.pass()
	pool := f.only()
	for range 4 {
		f.clock.Step(10 * time.Second)
		_, err := f.Pass(t.Context())
		require.NoError(t, err)
	}
	assert.Zero(t, f.azure.Polls(), "the list says that it still runs")
	f.azure.End(pool, nil, 2)
	f.clock.Step(10 * time.Second)
	_, err := f.Pass(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, f.azure.Polls())
	for _, name := range []string{"c1", "c2"} {
		assert.NotEmpty(t, f.claim(name).Annotations[AnnotationProviderID], "bound in the pass that saw the end")
	}
}

func TestThrottledPollWaitsAsLongAsAzureSays(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.pass()
	pool := f.only()
	f.azure.End(pool, nil, 1)
	f.azure.FailNext(
		"look", &azure.Error{Class: azure.ClassThrottle, Reason: karpenterv1alpha5.ReasonThrottled, RetryAfter: 17 * time.Second}, false,
	)
	f.clock.Step(10 * time.Second)
	for range 5 { // no wake-up may poll earlier
		_, err := f.Pass(t.Context())
		require.NoError(t, err)
	}
	assert.Equal(t, 1, f.azure.Polls())
	f.clock.Step(17 * time.Second)
	_, err := f.Pass(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, f.azure.Polls())
	assert.NotEmpty(t, f.claim("c1").Annotations[AnnotationProviderID])
}
