// SPDX-License-Identifier: Apache-2.0

package statushold_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"

	"kaito.sh/shared/statushold"
)

const uid = types.UID("a")

func TestAStatusIsHeldBackForTheLimitInAll(t *testing.T) {
	t.Parallel()
	clk := testclock.NewFakeClock(time.Unix(1000, 0))
	h := statushold.New[string](clk, 10*time.Second)
	assert.Equal(t, 10*time.Second, h.Hold(uid, "first", true))
	clk.Step(4 * time.Second)
	assert.Equal(t, 6*time.Second, h.Hold(uid, "second", true), "a later status does not extend the time")
	got, held := h.Get(uid)
	assert.True(t, held)
	assert.Equal(t, "second", got, "the next pass continues from the latest")
	clk.Step(6 * time.Second)
	assert.Zero(t, h.Hold(uid, "third", true), "it is due")
	_, held = h.Get(uid)
	assert.False(t, held)
	assert.Equal(t, 10*time.Second, h.Hold(uid, "fourth", true), "the time begins again")
}

func TestWhatAPersonWaitsForIsNeverHeldBack(t *testing.T) {
	t.Parallel()
	h := statushold.New[string](testclock.NewFakeClock(time.Unix(1000, 0)), time.Minute)
	assert.NotZero(t, h.Hold(uid, "progress", true))
	assert.Zero(t, h.Hold(uid, "a failure", false))
	_, held := h.Get(uid)
	assert.False(t, held, "the failure was written: nothing older may follow it")

	off := statushold.New[string](testclock.NewFakeClock(time.Unix(1000, 0)), 0)
	assert.Zero(t, off.Hold(uid, "progress", true))
}

func TestOtherAndForgottenObjectsHaveNoHeldStatus(t *testing.T) {
	t.Parallel()
	h := statushold.New[string](testclock.NewFakeClock(time.Unix(1000, 0)), time.Minute)
	h.Hold(uid, "held", true)
	_, held := h.Get("b")
	assert.False(t, held)
	h.Forget(uid)
	_, held = h.Get(uid)
	assert.False(t, held)
}
