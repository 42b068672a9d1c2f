// SPDX-License-Identifier: Apache-2.0

// Package manager starts an operator with the flags, logs, probes, metrics, leader election and cache that all
// operators share.
package manager
