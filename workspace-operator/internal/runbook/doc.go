// SPDX-License-Identifier: Apache-2.0

// Package runbook has the pages of docs/runbooks: the meaning of each reason, where to look, and what to do. It embeds
// a copy of the pages that `make generate` writes and `make verify` compares, because a binary can embed only files of
// its module.
package runbook
