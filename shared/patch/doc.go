// SPDX-License-Identifier: Apache-2.0

// Package patch writes to the API server only what has changed, and reports whether it wrote.
package patch
