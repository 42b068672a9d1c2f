// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/pool"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

func TestPoolConditionIsMirrored(t *testing.T) {
	f := newFixture(t)
	f.start("ws1")
	f.karpenter("ws1", func(c *karpv1.NodeClaim) {
		for _, condition := range []string{karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized} {
			c.StatusConditions().SetTrue(condition)
		}
		c.StatusConditions().SetFalse(pool.ConditionPoolManaged, karpenterv1alpha5.ReasonAgentPoolTagsReplaced, "put them back")
	})
	f.settle("ws1")
	m := f.machine("ws1")
	c := m.GetCondition(pool.ConditionPoolManaged)
	require.NotNil(t, c)
	assert.Equal(t, corev1.ConditionFalse, c.Status)
	assert.Equal(t, karpenterv1alpha5.ReasonAgentPoolTagsReplaced, c.Reason)
	assert.Equal(t, "put them back", c.Message)
	assert.Equal(t, corev1.ConditionTrue, m.GetCondition(karpenterv1alpha5.ConditionReady).Status, "the node is usable")
}
