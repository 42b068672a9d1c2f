// SPDX-License-Identifier: Apache-2.0

// Package podsecurity checks an operator's pods against the Pod Security Standards with a real API server.
package podsecurity
