// SPDX-License-Identifier: Apache-2.0

// Package stack runs the whole stack on one machine: a real control plane with simulated nodes, the fake Azure, an OCI
// registry, a simulated engine behind the real gateway, and the three operators, each a process with a token of its own
// service account, so that its RBAC is enforced. The demo and the end-to-end suites use it.
package stack
