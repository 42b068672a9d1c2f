// SPDX-License-Identifier: Apache-2.0

// Package stacktest is what the end-to-end suites share: a stack that ends with its test, the quick start's Workspace,
// and waits that show what they have waited for.
package stacktest
