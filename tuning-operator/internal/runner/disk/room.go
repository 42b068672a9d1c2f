// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"path/filepath"
	"syscall"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// Room returns an error if the disk of a file has fewer free bytes than needed. Callers check before they write,
// because a full disk also evicts the other pods of the node. The error is permanent and has the reason VolumeFull.
// Room returns nil if the free space is unknown.
func Room(file string, bytes int64, what string) error {
	folder := filepath.Dir(file)
	left, known := free(folder)
	if !known || bytes <= left {
		return nil
	}
	return fault.Permanent(
		tuningv1alpha1.ReasonVolumeFull,
		"%s needs %d bytes, but the disk of %s has only %d free; use a node with a larger disk, "+
			"or request one with spec.resources.requests[ephemeral-storage]: %w",
		what,
		bytes,
		folder,
		left,
		syscall.ENOSPC,
	)
}
