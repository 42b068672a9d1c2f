// SPDX-License-Identifier: Apache-2.0

// Package conditions sets conditions in a way that kstatus, Helm --wait, Argo and Flux understand for every kind. Ready
// is the verdict, Reconciling is True while the reconciler works, and Stalled is True when a person must act.
package conditions
