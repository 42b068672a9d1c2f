// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of the runner: fetch, push, package, resolve, trust.
package cli
