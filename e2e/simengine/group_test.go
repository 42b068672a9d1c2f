// SPDX-License-Identifier: Apache-2.0

package simengine_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/simengine"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
)

// meet starts a process' part of the meeting, and returns its result.
func meet(ctx context.Context, g simengine.Group) (<-chan error, <-chan (<-chan struct{})) {
	done, lost := make(chan error, 1), make(chan (<-chan struct{}), 1)
	go func() {
		l, err := g.Meet(ctx)
		lost <- l
		done <- err
	}()
	return done, lost
}

func TestAGroupMeetsOnce(t *testing.T) {
	addresses, err := process.FreeAddresses(1)
	require.NoError(t, err)
	rank := func(number int) simengine.Group {
		return simengine.Group{Nodes: 2, Rank: number, Address: addresses[0], Headless: number > 0}
	}
	followerContext, killFollower := context.WithCancel(t.Context())
	follower, _ := meet(followerContext, rank(1))
	leader, lost := meet(t.Context(), rank(0))
	for _, done := range []<-chan error{follower, leader} {
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(eventually.Long):
			require.Fail(t, "they do not meet")
		}
	}
	killFollower()
	select {
	case <-<-lost:
	case <-time.After(eventually.Long):
		require.Fail(t, "the leader does not see that the follower is gone")
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	again, _ := meet(short, rank(1))
	err = <-again
	assert.ErrorIs(t, err, context.DeadlineExceeded, "a follower that was started again is not taken in")
}

func TestRanksAreRefusedAsTheEngineDoes(t *testing.T) {
	none := func(string) string { return "" }
	for want, args := range map[string][]string{
		"argument --node-rank: be between 0 and 1; got 2":                       {"m", "--nnodes=2", "--node-rank=2", "--headless"},
		"rank 1 of 2 with headless=false: all ranks but 0 must be headless":     {"m", "--nnodes=2", "--node-rank=1"},
		"argument --nnodes: invalid value: is \"two\"; allowed: a whole number": {"m", "--nnodes=two"},
	} {
		_, _, err := simengine.ParseArgs(args, none)
		assert.EqualError(t, err, want)
	}
}
