// SPDX-License-Identifier: Apache-2.0

// Package disk bounds what the runner writes: by the bytes that it is allowed to fetch, and by the room on the disk.
package disk

import (
	"sync"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// Budget is how many bytes may be written, in all. It may be used by several goroutines. A nil Budget has no bound.
type Budget struct {
	mu   sync.Mutex
	left int64
}

// NewBudget returns a budget of some bytes, and nil for 0, which is no bound.
func NewBudget(bytes int64) *Budget {
	if bytes == 0 {
		return nil
	}
	return &Budget{left: bytes}
}

// Take reserves bytes before they are written. What names the file in the error. The error is permanent, with the
// reason SourceTooLarge, where less is left.
func (b *Budget) Take(bytes int64, what string) error {
	if bytes < 0 {
		return fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid, "%s has a size of %d bytes, which no file has", what, bytes,
		)
	}
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes > b.left {
		return fault.Permanent(
			tuningv1alpha1.ReasonSourceTooLarge,
			"%s needs %d bytes, and %d are left of --max-bytes, which follows "+
				"from spec.resources.requests[ephemeral-storage]; raise that",
			what,
			bytes,
			b.left,
		)
	}
	b.left -= bytes
	return nil
}

// Refund gives back bytes that were taken and are not written, or no longer there.
func (b *Budget) Refund(bytes int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += bytes
}
