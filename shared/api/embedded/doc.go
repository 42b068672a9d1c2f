// SPDX-License-Identifier: Apache-2.0

// Package embedded has the field types for parts of Kubernetes' own API that users write into our kinds: pod templates
// and volume sources.
//
// The CRDs have no schema for these parts, so the API server accepts any JSON object in them. The types keep that JSON
// unread. An informer can therefore decode every object that the API server accepts, and one malformed object cannot
// stop an operator. A controller calls Decode, which returns an *InvalidError with the path of the bad field.
//
// +kubebuilder:object:generate=true
package embedded
