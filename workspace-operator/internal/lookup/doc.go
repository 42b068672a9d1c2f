// SPDX-License-Identifier: Apache-2.0

// Package lookup reads the published descriptions of models that are not in the catalogue. It runs beside the
// reconciler, which reads results from memory and never waits. When a result arrives, the waiting Workspaces are
// enqueued.
package lookup
