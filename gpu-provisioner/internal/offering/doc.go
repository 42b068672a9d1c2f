// SPDX-License-Identifier: Apache-2.0

// Package offering knows the VM sizes, and remembers for all claims which offerings (size, zone and capacity type)
// Azure could not provide.
package offering
