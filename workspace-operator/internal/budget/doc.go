// SPDX-License-Identifier: Apache-2.0

// Package budget decides whether a namespace may rent more nodes: pure functions over GPUBudgets, claims and what a
// Workspace wants. The controller package reads and writes.
package budget
