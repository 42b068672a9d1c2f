// SPDX-License-Identifier: Apache-2.0

// Package workspace reconciles Workspaces. Reconciler.steps lists what a pass does, and each step has a file of its
// name. A step reads caches, decides, and writes only what differs. What it finds goes into the scope, which the status
// is made of at the end of the pass.
package workspace
