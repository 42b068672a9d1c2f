// SPDX-License-Identifier: Apache-2.0

// Package recent lets a reconciler read what it has just written before the watch has brought it back. Without it a
// pass that follows closely on another sees the world before its own writes: it would create again what it has created,
// and meet a conflict where it patches. Correctness never rests on this memory, which dies with the process: names are
// deterministic, so that AlreadyExists and the resource version are the guards. What it saves is the requests they
// cost.
package recent
