// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 serves the Workspace of v1alpha1, field for field, under the version that KAITO v0.12 writes.
// +kubebuilder:object:generate=true
// +groupName=kaito.sh
package v1beta1
