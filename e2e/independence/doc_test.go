// SPDX-License-Identifier: Apache-2.0

// Package independence_test shows that each operator works alone, and that another implementation of docs/contracts can
// replace it.
package independence_test
