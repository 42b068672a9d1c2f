// SPDX-License-Identifier: Apache-2.0

// Package placement asks for nodes and judges what comes. Machine and NodeClaim differ in nothing but their builders
// and readers, behind API. What is decided here is pure: writing is the controller's.
package placement
