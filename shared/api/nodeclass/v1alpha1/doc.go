// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the KaitoNodeClass, which configures the nodes of NodeClaims in Azure.
// +kubebuilder:object:generate=true
// +groupName=kaito.sh
package v1alpha1
