// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"
)

func TestBucketsMatchTheDocumentedLimits(t *testing.T) {
	for _, tc := range []struct {
		bucket Bucket
		burst  int
		every  time.Duration
	}{
		{BucketPoolPut, 20, time.Minute},
		{BucketOperation, 200, 500 * time.Millisecond},
		{BucketOther, 60, time.Second},
	} {
		t.Run(string(tc.bucket), func(t *testing.T) {
			clk := testclock.NewFakeClock(time.Unix(1000, 0))
			l := NewLimits(clk, 1)
			for i := range tc.burst {
				require.NoError(t, l.Take(tc.bucket, "p"), i)
			}
			err := l.Take(tc.bucket, "p")
			require.True(t, Is(err, ClassThrottle), "the bucket is empty")
			assert.Equal(t, tc.every, AsError(err).RetryAfter, "and the error has the delay")
			clk.Step(tc.every)
			assert.NoError(t, l.Take(tc.bucket, "p"))
			assert.Error(t, l.Take(tc.bucket, "p"))
		})
	}
}

func TestEachPoolHasItsOwnBucketOfPuts(t *testing.T) {
	l := NewLimits(testclock.NewFakeClock(time.Unix(1000, 0)), 1)
	for range 20 {
		require.NoError(t, l.Take(BucketPoolPut, "a"))
	}
	assert.Error(t, l.Take(BucketPoolPut, "a"))
	assert.NoError(t, l.Take(BucketPoolPut, "b"))
	l.Block(BucketPoolPut, "b", time.Minute)
	assert.Error(t, l.Take(BucketPoolPut, "b"))
	assert.NoError(t, l.Take(BucketPoolPut, "c"), "one pool's Retry-After does not block another")
}

func TestRetryAfterClosesTheBucketUntilThen(t *testing.T) {
	clk := testclock.NewFakeClock(time.Unix(1000, 0))
	l := NewLimits(clk, 1)
	l.Block(BucketOther, "", 30*time.Second)
	assert.Error(t, l.Take(BucketOther, ""))
	assert.False(t, l.Spare())
	assert.NoError(t, l.Take(BucketOperation, ""), "operations have their own limit")
	clk.Step(30 * time.Second)
	assert.NoError(t, l.Take(BucketOther, ""))
}

func TestReadsThatCanWaitLeaveAReserveForDeletes(t *testing.T) {
	l := NewLimits(testclock.NewFakeClock(time.Unix(1000, 0)), 1)
	n := 0
	for l.Spare() {
		require.NoError(t, l.Take(BucketOther, ""))
		n++
	}
	assert.Equal(t, 51, n)
	assert.NoError(t, l.Take(BucketOther, ""))
}

func TestShareLowersRatesAndRaisesNoBurst(t *testing.T) {
	for name, tc := range map[string]struct {
		share float64
		burst int
		every time.Duration
	}{
		"a half":    {0.5, 30, 2 * time.Second},
		"ten times": {10, 60, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			clk := testclock.NewFakeClock(time.Unix(1000, 0))
			l := NewLimits(clk, tc.share)
			for i := range tc.burst {
				require.NoError(t, l.Take(BucketOther, ""), i)
			}
			err := l.Take(BucketOther, "")
			require.Error(t, err)
			assert.Equal(t, tc.every, AsError(err).RetryAfter)
		})
	}
}
