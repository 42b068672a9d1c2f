// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestOldPricesAreSaid(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 6, 18, 0, 0, 0, 0, time.UTC)
	assert.Empty(t, oldPrices("2026-06-18", day.Add(90*24*time.Hour)))
	assert.Equal(
		t, "the list prices are of 2026-06-18, 91 days ago: compare them with Azure's before you decide by them",
		oldPrices("2026-06-18", day.Add(91*24*time.Hour)),
	)
	assert.Empty(t, oldPrices("", day.Add(1000*24*time.Hour)), "a plan without prices")
}
