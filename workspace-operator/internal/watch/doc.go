// SPDX-License-Identifier: Apache-2.0

// Package watch says what the Workspace controller caches, by which indexes it reads the caches, and which events
// enqueue which Workspaces with which priority.
package watch
