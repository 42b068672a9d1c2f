// SPDX-License-Identifier: Apache-2.0

// Package independence_test shows that each operator can be had alone, and each swapped for something that knows only
// the contract: docs/contracts is all that holds the three together.
package independence_test
