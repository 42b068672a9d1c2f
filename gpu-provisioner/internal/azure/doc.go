// SPDX-License-Identifier: Apache-2.0

// Package azure is the only package that calls Azure. It has the operator's configuration, credentials, clients, the
// table of errors, the client-side rate limits, and the cached view of the cluster's agent pools.
package azure
