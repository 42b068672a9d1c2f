// SPDX-License-Identifier: Apache-2.0

// Package machine reconciles Machines (karpenter.sh/v1alpha5). It creates one NodeClaim of the same name for each
// Machine and mirrors the NodeClaim's status to the Machine, where the status remains after the NodeClaim is deleted.
package machine
