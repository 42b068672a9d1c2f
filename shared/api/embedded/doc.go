// SPDX-License-Identifier: Apache-2.0

// Package embedded has the types of fields that hold parts of the Kubernetes API: pod templates and volume sources.
//
// The CRDs have no schema for these fields, so that the API server accepts any JSON object in them. The types keep the
// JSON without decoding it. An informer can therefore decode every object that the API server accepts, and one
// malformed object cannot stop an operator. Controllers call Decode, which returns an *InvalidError with the path of
// the invalid field.
//
// +kubebuilder:object:generate=true
package embedded
