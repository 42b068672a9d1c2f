// SPDX-License-Identifier: Apache-2.0

// Package podspec holds the parts of a pod's spec that all pods of this project share: the tolerations of GPU nodes,
// the hardened security contexts, and the escaping of text that users supply.
package podspec
