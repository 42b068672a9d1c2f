// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the TuningJob: a fine-tuning run, which needs no Workspace and no other operator.
// +kubebuilder:object:generate=true
// +groupName=tuning.kaito.sh
package v1alpha1
