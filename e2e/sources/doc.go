// SPDX-License-Identifier: Apache-2.0

// Package sources is the part of the world outside of a cluster that models, data and images come from and go to: a hub
// that speaks HuggingFace's API, and an OCI registry. Both are real servers over real TLS; what they hold is tiny.
package sources
