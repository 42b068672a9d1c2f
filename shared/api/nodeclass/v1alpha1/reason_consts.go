// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Reasons of the condition Ready of a node class.
const (
	// ReasonValid: claims may use the node class.
	ReasonValid = "Valid"
	// ReasonInvalidSpec: fields of the spec contradict each other, or name what does not exist.
	ReasonInvalidSpec = "InvalidSpec"
)
