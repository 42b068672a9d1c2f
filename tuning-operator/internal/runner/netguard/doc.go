// SPDX-License-Identifier: Apache-2.0

// Package netguard restricts the addresses that the runner connects to. Without it, a user could make the runner's pod
// download from addresses that only the cluster's network may reach: the metadata service of the node, the API server,
// the pods of other tenants.
//
// The dialer's Control hook checks the address of each connection after name resolution. A name that resolves to a
// public address first and to a private one later is therefore refused, and so is a redirect to a private address.
package netguard
