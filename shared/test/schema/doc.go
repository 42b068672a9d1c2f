// SPDX-License-Identifier: Apache-2.0

// Package schema asks whether every object that the API server accepts can be decoded by an operator. It uses the API
// server's own code (k8s.io/apiextensions-apiserver) for pruning, defaulting and validation with our CRDs, and the
// decoder that informers use.
//
// Informers decode whole lists. One object that is accepted and does not decode therefore hides all others of its kind
// from an operator.
package schema
