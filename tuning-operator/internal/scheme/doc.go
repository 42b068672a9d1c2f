// SPDX-License-Identifier: Apache-2.0

// Package scheme builds the scheme of every kind that the operator reads or writes.
package scheme
