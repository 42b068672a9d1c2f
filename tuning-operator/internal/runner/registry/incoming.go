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
	// stagingName is the folder in which an image's files wait until all are there. Datasets, models and images are read
	// without names that begin with a dot.
	stagingName = ".incoming"
	// stateName is what another process needs to go on, and to see that nothing is left to do.
	stateName = ".incoming.json"
)

// incoming is an image on its way into a folder.
type incoming struct {
	into, staging string
	budget        *disk.Budget

	mu    sync.Mutex
	taken int64 // bytes of the budget, with those of layers in hand
	doc   incomingDoc
}

type incomingDoc struct {
	// Manifest is the digest of the one that the layers are of.
	Manifest string `json:"manifest"`
	// Done are the places of whole layers in the manifest.
	Done []int `json:"done"`
	// Files of those, as path and size.
	Files map[string]int64 `json:"files"`
	// Taken are all bytes that they had, with those that a later layer took back.
	Taken int64 `json:"taken"`
	// Finished: the files have their names.
	Finished bool `json:"finished"`
}

// openIncoming continues with the same image, or begins. The budget bounds what is unpacked; release gives back what
// was taken of it.
func openIncoming(into, manifest string, budget *disk.Budget) (*incoming, error) {
	in := &incoming{into: into, staging: filepath.Join(into, stagingName), budget: budget}
	if raw, err := os.ReadFile(filepath.Join(into, stateName)); err == nil {
		var old incomingDoc
		if json.Unmarshal(raw, &old) == nil && old.Manifest == manifest && (!old.Finished || in.complete(old.Files)) {
			in.doc = old
		}
	}
	if in.doc.Manifest == "" {
		// Of another image, or not as this program left it.
		if err := os.RemoveAll(in.staging); err != nil {
			return nil, fmt.Errorf("emptying the folder of an earlier pull: %w", err)
		}
		in.doc = incomingDoc{Manifest: manifest}
	}
	if in.doc.Files == nil {
		in.doc.Files = map[string]int64{}
	}
	if err := in.budget.Take(in.doc.Taken, "what an earlier pull has unpacked"); err != nil {
		return nil, err
	}
	in.taken = in.doc.Taken
	if err := os.MkdirAll(in.staging, 0o755); err != nil { // its files are read by others when they have their names
		return nil, fmt.Errorf("creating the folder for the pull: %w", err)
	}
	return in, nil
}

// complete says whether files are there under their names.
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

// take counts the bytes of a file before they are written.
func (in *incoming) take(name string, size int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := in.budget.Take(size, name); err != nil {
		return err
	}
	in.taken += size
	return disk.Room(in.staging, size, name)
}

// release gives back all that was taken of the budget: the next try takes again what it needs.
func (in *incoming) release() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.budget.Refund(in.taken)
	in.taken = 0
}

// done records a whole layer.
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

// finish gives the files their names. One that was killed at it goes on.
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
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { // read by the trainer under another user
		return fmt.Errorf("creating the folder of %s: %w", file, err)
	}
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if info, statErr := os.Stat(to); statErr == nil && info.Size() == in.doc.Files[filepath.ToSlash(file)] {
			return nil // named before a kill
		}
	}
	if err != nil {
		return fmt.Errorf("naming %s: %w", file, err)
	}
	return nil
}
