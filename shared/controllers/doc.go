// SPDX-License-Identifier: Apache-2.0

// Package controllers makes the managers of operators and of tests. It links little: what an operator's process needs
// beside its controllers (flags, probes, guarded metrics, the lease) is in package manager.
package controllers
