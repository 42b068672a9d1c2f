// SPDX-License-Identifier: Apache-2.0

// Package progress reports the progress of the runner: as one JSON document a line on the output, and the latest one
// over HTTP.
package progress
