// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"math"
	"syscall"
)

// free returns the number of bytes that an unprivileged user can still write below a folder.
func free(folder string) (bytes int64, known bool) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(folder, &stat); err != nil || stat.Bsize <= 0 {
		return 0, false
	}
	block := uint64(stat.Bsize)
	return int64(min(stat.Bavail, math.MaxInt64/block) * block), true
}
