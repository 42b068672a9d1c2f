// SPDX-License-Identifier: Apache-2.0

// Package gpubudget holds Workspaces to the GPUBudgets of their namespace. Ledger counts and reserves before a node is
// rented, Room is what the process remembers for that, and Reconciler writes the use into the status of GPUBudgets.
// What a budget allows is decided by package budget.
package gpubudget
