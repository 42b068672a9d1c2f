// SPDX-License-Identifier: Apache-2.0

// Package metric names the operator's metrics.
package metric
