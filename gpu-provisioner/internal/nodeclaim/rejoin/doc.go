// SPDX-License-Identifier: Apache-2.0

// Package rejoin restores the metadata of a Node that registers again.
package rejoin
