// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"kaito.sh/tuning-operator/internal/runner/disk"
)

const (
	// stagingName is the folder for the files of an incomplete image. Readers of datasets, models and images ignore names
	// that begin with a dot.
	stagingName = ".incoming"
	// stateName is the file from which another process resumes the pull, or sees that it is complete.
	stateName = ".incoming.json"
)

// incoming is the state of a pull.
type incoming struct {
	into, staging string
	budget        *disk.Budget

	mu    sync.Mutex
	taken int64 // bytes taken from the budget, including incomplete layers
	doc   incomingDoc
}

type incomingDoc struct {
	// Manifest is the digest of the manifest.
	Manifest string `json:"manifest"`
	// Done are the indexes of the complete layers in the manifest.
	Done []int `json:"done"`
	// Files are the files of complete layers, with their sizes.
	Files map[string]int64 `json:"files"`
	// Taken is the number of bytes of complete layers, including files that a later layer removed.
	Taken int64 `json:"taken"`
	// Finished is true when the files have their final names.
	Finished bool `json:"finished"`
}

// openIncoming resumes a pull of the same image, or starts a new one. The budget limits the unpacked bytes. release
// returns the bytes to it.
func openIncoming(into, manifest string, budget *disk.Budget) (*incoming, error) {
	in := &incoming{into: into, staging: filepath.Join(into, stagingName), budget: budget}
	if raw, err := os.ReadFile(filepath.Join(into, stateName)); err == nil {
		var old incomingDoc
		if json.Unmarshal(raw, &old) == nil && old.Manifest == manifest && (!old.Finished || in.complete(old.Files)) {
			in.doc = old
		}
	}
	if in.doc.Manifest == "" {
		// The state of another image, or an invalid state.
		if err := os.RemoveAll(in.staging); err != nil {
			return nil, fmt.Errorf("emptying the folder of an earlier pull: %w", err)
		}
		in.doc = incomingDoc{Manifest: manifest}
	}
	if in.doc.Files == nil {
		in.doc.Files = map[string]int64{}
	}
	if err := in.budget.Take(in.doc.Taken, "an earlier pull"); err != nil {
		return nil, err
	}
	in.taken = in.doc.Taken
	if err := os.MkdirAll(in.staging, 0o755); err != nil { // other users read the files after they are renamed
		return nil, fmt.Errorf("creating the folder for the pull: %w", err)
	}
	return in, nil
}

// complete returns whether the files exist with their final names.
func (in *incoming) complete(files map[string]int64) bool {
	for name, size := range files {
		info, err := os.Stat(filepath.Join(in.into, filepath.FromSlash(name)))
		if err != nil || info.Size() != size {
			return false
		}
	}
	return true
}

func (in *incoming) has(layer int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.doc.Finished || slices.Contains(in.doc.Done, layer)
}

// take takes the bytes of a file from the budget before they are written.
func (in *incoming) take(name string, size int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := in.budget.Take(size, name); err != nil {
		return err
	}
	in.taken += size
	return disk.Room(in.staging, size, name)
}

// release returns all bytes to the budget. The next attempt takes what it needs.
func (in *incoming) release() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.budget.Refund(in.taken)
	in.taken = 0
}

// done records a complete layer.
func (in *incoming) done(layer int, u *unpacker) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	maps.Copy(in.doc.Files, u.fresh)
	for _, size := range u.fresh {
		in.doc.Taken += size
	}
	in.doc.Done = append(in.doc.Done, layer)
	return in.save()
}

func (in *incoming) save() error {
	raw, err := json.Marshal(in.doc)
	if err != nil {
		return fmt.Errorf("recording the pull: %w", err)
	}
	path := filepath.Join(in.into, stateName)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("recording the pull: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("recording the pull: %w", err)
	}
	return nil
}

// finish renames the files. It resumes after an interruption.
func (in *incoming) finish() error {
	if !in.doc.Finished {
		for name := range in.doc.Files {
			if err := in.name(filepath.FromSlash(name)); err != nil {
				return err
			}
		}
		in.doc.Finished = true
		if err := in.save(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(in.staging); err != nil {
		return fmt.Errorf("removing the folder of the pull: %w", err)
	}
	return nil
}

func (in *incoming) name(file string) error {
	from, to := filepath.Join(in.staging, file), filepath.Join(in.into, file)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { // the trainer reads it as another user
		return fmt.Errorf("creating the folder of %s: %w", file, err)
	}
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if info, statErr := os.Stat(to); statErr == nil && info.Size() == in.doc.Files[filepath.ToSlash(file)] {
			return nil // renamed before an interruption
		}
	}
	if err != nil {
		return fmt.Errorf("naming %s: %w", file, err)
	}
	return nil
}
