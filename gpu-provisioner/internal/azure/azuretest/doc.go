// SPDX-License-Identifier: Apache-2.0

// Package azuretest provides an Azure in memory for tests above the wire protocol. The protocol itself is tested with
// the fake Azure of e2e.
package azuretest
