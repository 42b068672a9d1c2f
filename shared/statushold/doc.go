// SPDX-License-Identifier: Apache-2.0

// Package statushold holds back a status that reports only progress, so that the next change shares its write. Where
// many objects are created at once, status writes are most of the API server's work. A status that a person waits for,
// or must act on, is never held back: the controller decides which. See docs/adr/0007-status-hold.md.
package statushold
