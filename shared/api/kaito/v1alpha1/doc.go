// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the Workspace, the stored version of the kaito.sh API.
// +kubebuilder:object:generate=true
// +groupName=kaito.sh
package v1alpha1
