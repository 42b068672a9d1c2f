// SPDX-License-Identifier: Apache-2.0

// Package trust makes containers trust the certificate authorities of the cluster: those of a registry, a model hub or
// a mirror without a public certificate.
package trust
