// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

const (
	operationTakes = 3 * time.Minute
	joinTakes      = 90 * time.Second
	drainTakes     = 5 * time.Second
)

// crowd is many claims, and an Azure whose operations take three minutes. The delays that the engine returns move its
// clock. It computes the number of calls to Azure; e2e/scale measures them.
type crowd struct {
	*fixture
	ends  map[string]time.Time // running operations by pool
	seen  int                  // recorded writes
	bound map[types.UID]time.Time
	start time.Time
	cost  int
}

func (c *crowd) begin() { c.start, c.cost = c.clock.Now(), c.azure.Cost() }

// calls per claim since begin
func (c *crowd) perClaim(n int) float64 { return float64(c.azure.Cost()-c.cost) / float64(n) }

func (c *crowd) ask(n int, sizes ...string) {
	for i := range n {
		claim := claimWith(in(corev1.LabelInstanceTypeStable, sizes[i%len(sizes)]))
		claim.Name = fmt.Sprintf("c%d", i)
		claim.UID, claim.CreationTimestamp, claim.Finalizers = types.UID(claim.Name), metav1.NewTime(c.clock.Now()), []string{
			karpv1.TerminationFinalizer,
		}
		claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}
		require.NoError(c.t, c.client.Create(c.t.Context(), claim))
	}
}

// until runs passes, each after the delay that the engine returned, until done.
func (c *crowd) until(done func(claims []karpv1.NodeClaim) bool) {
	c.t.Helper()
	for range 5000 {
		next, err := c.Pass(c.t.Context())
		require.NoError(c.t, err)
		for _, call := range c.azure.Calls()[c.seen:] {
			c.ends[strings.Fields(call)[1]] = c.clock.Now().Add(operationTakes)
			c.seen++
		}
		var list karpv1.NodeClaimList
		require.NoError(c.t, c.client.List(c.t.Context(), &list))
		if done(list.Items) {
			return
		}
		for i := range list.Items {
			c.core(&list.Items[i])
		}
		c.clock.Step(next)
		for pool, end := range c.ends {
			if !end.After(c.clock.Now()) {
				c.azure.End(pool, nil, 0)
				delete(c.ends, pool)
			}
		}
	}
	require.Fail(c.t, "it never ends")
}

// core registers claims whose machines had time to become Nodes, and finalizes claims whose machines are gone.
func (c *crowd) core(claim *karpv1.NodeClaim) {
	id := ProviderIDOf(claim)
	if id == "" {
		return
	}
	if !claim.DeletionTimestamp.IsZero() {
		view, _ := c.Cache.View()
		if _, _, there := view.Machine(id); !there {
			claim.Finalizers = nil
			require.NoError(c.t, c.client.Update(c.t.Context(), claim))
		}
		return
	}
	at, known := c.bound[claim.UID]
	if !known {
		c.bound[claim.UID] = c.clock.Now()
		return
	}
	if c.clock.Since(at) >= joinTakes && claim.StatusConditions().SetTrue(karpv1.ConditionTypeRegistered) {
		require.NoError(c.t, c.client.Status().Update(c.t.Context(), claim))
	}
}

// crowdSize is 200, or the environment variable COST_CLAIMS: make scale sets 500.
func crowdSize(t *testing.T) int {
	text := os.Getenv("COST_CLAIMS")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

func TestClaimsCostAtMostThreeCallsEach(t *testing.T) {
	n := crowdSize(t)
	for name, sizes := range map[string][]string{
		"one kind": {"A"}, "five kinds": {"A", "B", "C", "D", "E"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &crowd{fixture: newFixture(t), ends: map[string]time.Time{}, bound: map[types.UID]time.Time{}}
			c.MaxPerPool, c.azure.PageSize = n/5, 50 // as the fake Azure of e2e does
			c.begin()
			c.ask(n, sizes...)
			c.until(func(claims []karpv1.NodeClaim) bool {
				for i := range claims {
					if !claims[i].StatusConditions().Get(karpv1.ConditionTypeRegistered).IsTrue() {
						return false
					}
				}
				return true
			})
			assert.Len(t, c.pools(), 5)
			assert.LessOrEqual(t, c.perClaim(n), 3.0, "calls a node, made")
			t.Logf("made: %d calls (%.2f a node), %s", c.azure.Cost()-c.cost, c.perClaim(n), c.clock.Since(c.start))

			c.begin()
			for i := range n {
				claim := c.claim(fmt.Sprintf("c%d", i))
				require.NoError(t, c.client.Delete(t.Context(), claim))
				if i%100 == 99 {
					c.clock.Step(drainTakes / 5) // Karpenter drains them over some seconds
				}
				c.Release(claim.UID)
			}
			c.until(func(claims []karpv1.NodeClaim) bool { return len(claims) == 0 && len(c.pools()) == 0 })
			assert.LessOrEqual(t, c.perClaim(n), 3.0, "calls a node, deleted")
			t.Logf("deleted: %d calls (%.2f a node), %s", c.azure.Cost()-c.cost, c.perClaim(n), c.clock.Since(c.start))
		})
	}
}
