// SPDX-License-Identifier: Apache-2.0

// Package disk limits what the runner writes: by the bytes that it may fetch, and by the free space of the disk.
package disk
