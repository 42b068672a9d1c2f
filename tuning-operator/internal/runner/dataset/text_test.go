// SPDX-License-Identifier: Apache-2.0

package dataset

import (
	"io"
	"io/fs"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
)

// TestAnErrorOfTheDiskIsNotTheDatas: what is refused is not tried again.
func TestAnErrorOfTheDiskIsNotTheDatas(t *testing.T) {
	disk := &fs.PathError{Op: "read", Path: "a", Err: syscall.EIO}
	for name, read := range map[string]func(io.Reader, visit) error{"lines": jsonLines, "document": jsonDocument, "csv": csvRows} {
		err := read(iotest.ErrReader(disk), func(int64, map[string]any) error { return nil })
		var broken *unreadableError
		assert.ErrorIs(t, err, syscall.EIO, name)
		assert.NotErrorAs(t, err, &broken, name)
	}
}
