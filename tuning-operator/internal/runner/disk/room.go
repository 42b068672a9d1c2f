// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"path/filepath"
	"syscall"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// Room returns an error when the disk of a file has less than some bytes free. It is asked before bytes are written: a
// disk that is full takes the node's other pods down too. The error is permanent, with the reason VolumeFull. There is
// none where the system does not tell how much is free.
func Room(file string, bytes int64, what string) error {
	folder := filepath.Dir(file)
	left, known := free(folder)
	if !known || bytes <= left {
		return nil
	}
	return fault.Permanent(
		tuningv1alpha1.ReasonVolumeFull,
		"%s needs %d bytes, and the disk below %s has %d free; use a node with a larger disk, "+
			"or ask for one by spec.resources.requests[ephemeral-storage]: %w",
		what,
		bytes,
		folder,
		left,
		syscall.ENOSPC,
	)
}
