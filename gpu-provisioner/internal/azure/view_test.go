// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"
)

type reader struct {
	pools    []Pool
	machines map[string][]Machine
	reads    []string
	spare    int
	fail     map[string]error
}

func (r *reader) Cluster(context.Context) (Cluster, error) {
	return Cluster{PowerState: "Running"}, r.fail["cluster"]
}
func (r *reader) Pools(context.Context) ([]Pool, error) {
	return append([]Pool(nil), r.pools...), r.fail["pools"]
}
func (r *reader) Spare() bool { r.spare--; return r.spare >= 0 }
func (r *reader) Machines(_ context.Context, pool string) ([]Machine, error) {
	r.reads = append(r.reads, pool)
	return r.machines[pool], r.fail[pool]
}

func ourPool(name string, count int) Pool {
	return Pool{
		Name:  name,
		State: StateSucceeded,
		Count: count,
		ETag:  "1",
		Tags:  map[string]string{TagManagedBy: ManagedByValue, TagPoolKey: "k"},
	}
}

func newReader() (*reader, *Cache, *testclock.FakeClock) {
	r := &reader{
		pools:    []Pool{ourPool("b", 1), ourPool("a", 1), {Name: "user", State: StateSucceeded}},
		machines: map[string][]Machine{"a": {{"a0", "pa"}}, "b": {{"b0", "pb"}}}, spare: 100, fail: map[string]error{},
	}
	clk := testclock.NewFakeClock(time.Unix(1000, 0))
	return r, NewCache(r, clk), clk
}

func (r *reader) since() []string {
	out := r.reads
	r.reads = nil
	return out
}

func TestOnlyChangedPoolsAreReadAgain(t *testing.T) {
	r, c, clk := newReader()
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	assert.Equal(t, []string{"a", "b"}, r.since(), "first all pools of this operator, and no others")
	view, err := c.View()
	require.NoError(t, err)
	assert.True(t, view.Fresh(clk.Now(), 0))

	clk.Step(time.Second)
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	assert.Empty(t, r.since(), "nothing changed")
	view, _ = c.View()
	_, p, ok := view.Machine("pa")
	require.True(t, ok)
	assert.Equal(t, "a", p.Name, "the earlier list is kept")
	assert.Equal(t, clk.Now().Add(-time.Second), view.Oldest)

	for name, change := range map[string]func(){
		"written to":    func() { r.pools[0].ETag = "2" },
		"another count": func() { r.pools[0].Count = 2 },
		"busy":          func() { r.pools[0].State = "Scaling" },
		"invalidated":   func() { r.pools[0].State = StateSucceeded; c.Invalidate("b") },
		"doubted":       func() { c.Doubt("b") },
	} {
		change()
		require.NoError(t, c.Refresh(t.Context(), time.Minute))
		assert.Contains(t, r.since(), "b", name)
	}
	clk.Step(time.Minute)
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	assert.ElementsMatch(t, []string{"a", "b"}, r.since(), "too old")
}

func TestFailedReadKeepsTheOlderView(t *testing.T) {
	for _, what := range []string{"cluster", "pools", "b"} {
		t.Run(what, func(t *testing.T) {
			r, c, clk := newReader()
			require.NoError(t, c.Refresh(t.Context(), time.Minute))
			before, _ := c.View()
			clk.Step(time.Hour)
			r.fail[what] = &Error{Class: ClassTransient}
			r.pools = r.pools[:1]
			require.Error(t, c.Refresh(t.Context(), time.Minute))
			view, err := c.View()
			require.Error(t, err)
			assert.Equal(t, before, view)
		})
	}
}

func TestThrottledRefreshReadsTheOldestPoolsFirst(t *testing.T) {
	r, c, clk := newReader()
	r.spare = 1
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	view, _ := c.View()
	assert.False(t, view.Complete, "b was never read")
	assert.False(t, view.Fresh(clk.Now(), time.Hour))
	r.since()
	clk.Step(2 * time.Minute)
	r.spare = 1
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	assert.Equal(t, []string{"b"}, r.since())
	view, _ = c.View()
	assert.True(t, view.Complete)
	assert.Equal(t, clk.Now().Add(-2*time.Minute), view.Oldest)
}

func TestPoolDeletedBetweenTheReadsIsNotAnError(t *testing.T) {
	r, c, _ := newReader()
	r.fail["b"] = &Error{Class: ClassGone}
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	r.pools = r.pools[1:]
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	view, err := c.View()
	require.NoError(t, err)
	assert.True(t, view.Complete)
}

func TestA404ForAListedPoolKeepsItsMachinesInDoubt(t *testing.T) {
	r, c, clk := newReader()
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	r.fail["b"] = &Error{Class: ClassGone}
	for range 3 {
		clk.Step(time.Hour)
		r.since()
		require.NoError(t, c.Refresh(t.Context(), time.Minute))
		assert.Contains(t, r.since(), "b", "it is read again each time")
		assert.False(t, c.Stale(), "but not in a hurry")
		view, err := c.View()
		require.NoError(t, err)
		assert.False(t, view.Complete)
		assert.True(t, view.Fresh(clk.Now(), time.Minute), "the other pools' machines are known")
		_, p, found := view.Machine("pb")
		require.True(t, found)
		assert.Contains(t, p.Doubt, "404")
		assert.Equal(t, time.Unix(1000, 0), p.MachinesAt)
	}
	r.pools[0].State = StateDeleting
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	view, _ := c.View()
	assert.True(t, view.Complete, "404 is expected, because the pool is being deleted")

	r.pools[0].State = StateSucceeded
	delete(r.fail, "b")
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	view, _ = c.View()
	assert.True(t, view.Complete)
	assert.Equal(t, clk.Now(), view.Oldest)
}

func TestMachineWithoutAnIDPutsItsPoolInDoubt(t *testing.T) {
	r, c, clk := newReader()
	r.machines["b"] = []Machine{{"b0", "pb"}, {"b1", ""}}
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	view, _ := c.View()
	assert.False(t, view.Complete)
	assert.True(t, view.Fresh(clk.Now(), 0), "the other pools' machines are known")
	p, _ := view.Pool("b")
	assert.Equal(t, []Machine{{"b0", "pb"}}, p.Machines)
	assert.Contains(t, p.Doubt, "b1")

	r.machines["b"] = []Machine{{"b0", "pb"}, {"b1", "pb1"}}
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	view, _ = c.View()
	assert.True(t, view.Complete)
}

func TestBusyPoolIsReadWhileMachinesArrive(t *testing.T) {
	for name, tc := range map[string]struct {
		state string
		count int
		reads []string
	}{
		"machines arrive":                         {"Scaling", 2, []string{"b"}},
		"all are there":                           {"Scaling", 1, nil},
		"it is deleted":                           {StateDeleting, 2, nil},
		"no operation runs on it":                 {StateSucceeded, 2, nil},
		"it is being created and has no machines": {"Creating", 3, []string{"b"}},
		"machines of it are going":                {"Updating", 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, c, clk := newReader()
			r.pools[0].State, r.pools[0].Count = tc.state, tc.count
			require.NoError(t, c.Refresh(t.Context(), time.Minute))
			r.since()
			clk.Step(time.Second)
			require.NoError(t, c.Refresh(t.Context(), time.Minute))
			assert.Equal(t, tc.reads, r.since())
		})
	}
}
