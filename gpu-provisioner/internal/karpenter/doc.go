// SPDX-License-Identifier: Apache-2.0

// Package karpenter composes the controllers of Karpenter's core that act on existing NodeClaims. It leaves out those
// that create NodeClaims.
package karpenter
