// SPDX-License-Identifier: Apache-2.0

// Package v1alpha5 holds the Machine, which is compatible with that of karpenter-core v0.31.
// +kubebuilder:object:generate=true
// +groupName=karpenter.sh
package v1alpha5
