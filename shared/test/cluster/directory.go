// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// temporaryPattern is the pattern of the names of temporary folders, by which those of killed tests are found.
	temporaryPattern = "kaito-cluster-*"
	// lockFile marks a folder of a cluster. The kernel keeps its lock while the process that owns the cluster runs.
	lockFile = "cluster.lock"
)

// directory is the folder of a cluster.
type directory struct {
	path      string
	temporary bool
	lock      *os.File
}

// openDirectory prepares and locks the folder. Without a path it creates a temporary one.
func openDirectory(path string) (*directory, error) {
	d := &directory{path: path, temporary: path == ""}
	if d.temporary {
		removeLeftovers(os.TempDir())
		made, err := os.MkdirTemp("", temporaryPattern)
		if err != nil {
			return nil, fmt.Errorf("making a folder for a cluster: %w", err)
		}
		d.path = made
	} else if err := d.takeOver(); err != nil {
		return nil, err
	}
	var err error
	if d.lock, err = lock(d.path, os.O_CREATE|os.O_RDWR); err != nil {
		return nil, fmt.Errorf(
			"the cluster folder %s is used by another process, stop it or name another folder: %w", d.path, err,
		)
	}
	if !d.temporary {
		if err := d.empty(); err != nil {
			return nil, errors.Join(err, d.lock.Close())
		}
	}
	if err := os.MkdirAll(filepath.Join(d.path, "logs"), 0o700); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

// takeOver makes the path of a named folder absolute, and refuses a folder with other files.
func (d *directory) takeOver() error {
	absolute, err := filepath.Abs(d.path)
	if err != nil {
		return fmt.Errorf("the cluster folder %q: %w", d.path, err)
	}
	d.path = absolute
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return fmt.Errorf("making the cluster folder: %w", err)
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("reading the cluster folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(d.path, lockFile)); err != nil && len(entries) > 0 {
		return fmt.Errorf("the cluster folder %s has files of another origin: use an empty or a new folder", d.path)
	}
	return nil
}

// empty deletes the files of an earlier cluster.
func (d *directory) empty() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == lockFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.path, entry.Name())); err != nil {
			return fmt.Errorf("emptying the cluster folder: %w", err)
		}
	}
	return nil
}

func (d *directory) close() error {
	var err error
	if d.temporary {
		err = os.RemoveAll(d.path)
	}
	return errors.Join(err, d.lock.Close())
}

// removeLeftovers deletes the folders of clusters whose process was killed. It ignores folders that it cannot delete.
func removeLeftovers(parent string) {
	folders, err := filepath.Glob(filepath.Join(parent, temporaryPattern))
	if err != nil {
		return
	}
	for _, folder := range folders {
		held, err := lock(folder, os.O_RDWR)
		if err != nil {
			continue // in use, being created, or of another user
		}
		_ = os.RemoveAll(folder)
		_ = held.Close()
	}
}

func lock(folder string, flags int) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(folder, lockFile), flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
