// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

func TestBudgetIsNotExceeded(t *testing.T) {
	b := disk.NewBudget(10)
	require.NoError(t, b.Take(7, "one"))
	err := b.Take(4, "two")
	require.Error(t, err)
	assert.Equal(t, tuningv1alpha1.ReasonSourceTooLarge, fault.Of(err, "").Reason)
	assert.ErrorContains(t, err, "two needs 4 bytes, but only 3 are left")
	require.Error(t, b.Take(math.MaxInt64, "all"))
	b.Refund(1)
	require.NoError(t, b.Take(4, "two"))
}

func TestNegativeSizeIsRefused(t *testing.T) {
	for _, b := range []*disk.Budget{nil, disk.NewBudget(10)} {
		err := b.Take(-1, "one")
		require.Error(t, err)
		assert.Equal(t, tuningv1alpha1.ReasonSourceInvalid, fault.Of(err, "").Reason)
	}
}

func TestNilBudgetHasNoLimit(t *testing.T) {
	b := disk.NewBudget(0)
	require.NoError(t, b.Take(math.MaxInt64, "all"))
	b.Refund(1)
}

func TestRoomRefusesSizesAboveFreeSpace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model")
	require.NoError(t, disk.Room(file, 1, "model"))
	err := disk.Room(file, math.MaxInt64, "model")
	require.Error(t, err)
	assert.Equal(t, tuningv1alpha1.ReasonVolumeFull, fault.Of(err, "").Reason)
	assert.True(t, fault.Of(err, "").Permanent)
}
