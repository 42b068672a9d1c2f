// SPDX-License-Identifier: Apache-2.0

package ranks

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Program is the name of the supervisor in the folder that it is installed to.
const Program = "ranks"

// Install copies the running program into a folder that another container mounts. It is renamed into place, so that a
// restart never leaves half of it.
func Install(folder string) error {
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	from, err := os.Open(path) //nolint:gosec // this program
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // it was only read
	into, err := os.CreateTemp(folder, "."+Program)
	if err != nil {
		return err
	}
	_, err = io.Copy(into, from)
	if closeErr := into.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(into.Name(), 0o755) //nolint:gosec // the engine's user is another
	}
	if err == nil {
		err = os.Rename(into.Name(), filepath.Join(folder, Program))
	}
	if err != nil {
		_ = os.Remove(into.Name()) // the first error counts
		return fmt.Errorf("copying this program to %s: %w", folder, err)
	}
	return nil
}
