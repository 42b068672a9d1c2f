// SPDX-License-Identifier: Apache-2.0

// Package process runs the binaries that tests and demonstrations need. Each runs in its own process group and is
// stopped in order. On Linux the kernel ends it with its parent, so that it never outlives the test.
package process
