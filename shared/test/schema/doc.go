// SPDX-License-Identifier: Apache-2.0

// Package schema tests that an operator can decode all objects that the API server accepts. It uses the API server's
// code (k8s.io/apiextensions-apiserver) for pruning, defaulting and validation with the CRDs of this repository, and
// the decoder of informers.
//
// Informers decode whole lists. One accepted object that does not decode therefore hides all objects of its kind from
// an operator.
package schema
