// SPDX-License-Identifier: Apache-2.0

// Package operator composes the gpu-provisioner: its flags, its pool engine, and its controllers beside those of
// Karpenter's core.
package operator
