// SPDX-License-Identifier: Apache-2.0

// Package fakeazure is a stateful server that speaks the protocol of Azure over TLS: the token endpoint of Entra, and
// the part of ARM that an AKS node provisioner uses. Its clients are the real Azure SDKs. Time passes on a clock that
// tests control, and faults come from a script.
package fakeazure
