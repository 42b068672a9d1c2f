// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Money is an amount of US dollars an hour, in millionths of a dollar: sums of it are exact.
type Money int64

const micro = 1_000_000

// decimals is how many digits after the point a Money has.
const decimals = 6

// Dollars makes Money of a list price in US dollars an hour.
func Dollars(usd float64) Money { return Money(math.Round(usd * micro)) }

// ParseMoney reads a decimal of US dollars, as the schema of spec.maxCostPerHour allows it: at most 9 digits before the
// point, and 6 after it.
func ParseMoney(text string) (Money, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	if whole == "" {
		return 0, fmt.Errorf("%q is not a decimal such as 12.50", text)
	}
	if len(whole) > 9 || len(fraction) > decimals {
		return 0, fmt.Errorf("%q has too many digits: want at most 9 before the point and %d after it", text, decimals)
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", decimals-len(fraction)), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a decimal such as 12.50: %w", text, err)
	}
	return Money(n), nil //nolint:gosec // 63 bits
}

// String is a decimal with three digits after the point, as status.plan.costPerHour has it.
func (m Money) String() string { return strconv.FormatFloat(float64(m)/micro, 'f', 3, 64) }
