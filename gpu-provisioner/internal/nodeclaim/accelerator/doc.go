// SPDX-License-Identifier: Apache-2.0

// Package accelerator marks NodeClaims whose Node is Ready but does not report its GPUs in time. Karpenter waits for
// them without a limit.
package accelerator
