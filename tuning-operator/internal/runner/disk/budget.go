// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"sync"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// Budget limits the total number of bytes that are written. It is safe for concurrent use. A nil Budget has no limit.
type Budget struct {
	mu   sync.Mutex
	left int64
}

// NewBudget returns a budget of the given number of bytes. 0 means no limit and returns nil.
func NewBudget(bytes int64) *Budget {
	if bytes == 0 {
		return nil
	}
	return &Budget{left: bytes}
}

// Take reserves bytes before they are written. what names the file in the error. If fewer bytes are left, the error is
// permanent and has the reason SourceTooLarge.
func (b *Budget) Take(bytes int64, what string) error {
	if bytes < 0 {
		return fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid, "%s has an invalid size of %d bytes", what, bytes,
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
			"%s needs %d bytes, but only %d are left of --max-bytes, which is set "+
				"from spec.resources.requests[ephemeral-storage]; raise that request",
			what,
			bytes,
			b.left,
		)
	}
	b.left -= bytes
	return nil
}

// Refund returns bytes to the budget that were taken and are not on the disk.
func (b *Budget) Refund(bytes int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += bytes
}
