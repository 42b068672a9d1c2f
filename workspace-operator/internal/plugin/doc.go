// SPDX-License-Identifier: Apache-2.0

// Package plugin is the kubectl plugin kaito. Its commands plan models without a cluster, and inspect Workspaces in a
// cluster.
package plugin
