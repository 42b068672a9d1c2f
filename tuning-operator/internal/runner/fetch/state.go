// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

const (
	partSuffix  = ".part"
	stateSuffix = ".part.json"
)

// state is the state of a download in parts: the bytes in Path.part, and a file that lists the complete parts, so that
// another process can resume it.
type state struct {
	path string
	file *os.File
	mu   sync.Mutex
	doc  stateDoc
}

type stateDoc struct {
	Size      int64  `json:"size"`
	PartSize  int64  `json:"partSize"`
	Validator string `json:"validator"`
	Done      []bool `json:"done"`
}

// maxParts limits the parts of one file: 16 TiB in parts of 16 MiB, more than any disk of a node. A server may announce
// any size, and each part needs memory and space in the state before its first byte arrives.
const maxParts = 1 << 20

// checkSize returns an error if a file of the given size has more than maxParts parts of the size partSize. Both are
// positive.
func checkSize(f File, size, partSize int64) error {
	if (size-1)/partSize < maxParts {
		return nil
	}
	return fault.Permanent(
		tuningv1alpha1.ReasonSourceTooLarge, "%s has %d bytes according to its server: the limit is %d bytes", f.name(), size,
		maxParts*partSize,
	)
}

// openState resumes a download of the same file, or starts a new one. Without a validator it always starts a new one,
// because the file may have changed.
func openState(f File, src source, partSize int64) (*state, error) {
	st := &state{path: f.Path, doc: stateDoc{Size: src.size, PartSize: partSize, Validator: src.validator}}
	count := int((src.size-1)/partSize + 1) // cannot overflow
	st.doc.Done = make([]bool, count)
	if raw, err := os.ReadFile(f.Path + stateSuffix); err == nil {
		var old stateDoc
		if json.Unmarshal(raw, &old) == nil && src.validator != "" && old.Validator == src.validator &&
			old.Size == src.size && old.PartSize == partSize && len(old.Done) == count {
			st.doc = old
		}
	}
	if err := disk.Room(f.Path, src.size-st.have(), f.name()); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(f.Path+partSuffix, os.O_CREATE|os.O_RDWR, 0o644) // the trainer reads it as another user
	if err != nil {
		return nil, fmt.Errorf("opening the download: %w", err)
	}
	// Truncate creates a sparse file of the final size, so that parts can be written in any order. Existing parts stay.
	if err := file.Truncate(src.size); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("sizing the download: %w", err)
	}
	st.file = file
	return st, nil
}

func (s *state) bounds(n int) (from, to int64) {
	from = int64(n) * s.doc.PartSize
	return from, min(from+s.doc.PartSize, s.doc.Size) - 1
}

// run is a sequence of consecutive parts.
type run struct{ first, last int }

// missing returns the parts to download. For concurrent requests each part is a run. For one connection, consecutive
// parts are joined, because each additional request costs a round trip.
func (s *state) missing(join bool) []run {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []run
	for n, done := range s.doc.Done {
		switch last := len(out) - 1; {
		case done:
		case join && last >= 0 && out[last].last == n-1:
			out[last].last = n
		default:
			out = append(out, run{n, n})
		}
	}
	return out
}

func (s *state) isDone(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doc.Done[n]
}

// have returns the number of bytes of complete parts.
func (s *state) have() int64 {
	var sum int64
	for n, done := range s.doc.Done {
		if done {
			from, to := s.bounds(n)
			sum += to - from + 1
		}
	}
	return sum
}

// done records a complete part. It syncs the bytes first: if a crash lost recorded bytes of a file without a checksum,
// the file would be corrupt without an error.
func (s *state) done(n int) error {
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("syncing the download: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc.Done[n] = true
	raw, err := json.Marshal(s.doc)
	if err != nil {
		return fmt.Errorf("encoding the download's state: %w", err)
	}
	temp := s.path + stateSuffix + ".tmp"
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return fmt.Errorf("writing the download's state: %w", err)
	}
	if err := os.Rename(temp, s.path+stateSuffix); err != nil {
		return fmt.Errorf("writing the download's state: %w", err)
	}
	return nil
}

func (s *state) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	if err != nil {
		return fmt.Errorf("closing the download: %w", err)
	}
	return nil
}

// finish checks the complete file and renames it.
func (d *Downloader) finish(f File, size int64, sum string) (int64, string, error) {
	if want := strings.ToLower(f.SHA256); want != "" && sum != want {
		if err := discard(f.Path); err != nil {
			return 0, "", err
		}
		return 0, "", fault.Permanent(
			tuningv1alpha1.ReasonChecksumMismatch, "%s has sha256 %s, expected %s", f.name(), sum, want,
		)
	}
	if f.Size > 0 && size != f.Size {
		return 0, "", fault.Permanent(
			tuningv1alpha1.ReasonChecksumMismatch, "%s has %d bytes, expected %d", f.name(), size, f.Size,
		)
	}
	if err := os.Rename(f.Path+partSuffix, f.Path); err != nil {
		return 0, "", fmt.Errorf("naming the download: %w", err)
	}
	if err := remove(f.Path + stateSuffix); err != nil {
		return 0, "", err
	}
	return size, sum, nil
}

func digestFile(path string) (int64, string, error) {
	in, err := os.Open(path)
	if err != nil {
		return 0, "", fmt.Errorf("checking the download: %w", err)
	}
	defer func() { _ = in.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, in)
	if err != nil {
		return 0, "", fmt.Errorf("checking the download: %w", err)
	}
	return n, hex.EncodeToString(h.Sum(nil)), nil
}

// discard deletes a download in parts.
func discard(path string) error {
	return errors.Join(remove(path+partSuffix), remove(path+stateSuffix))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	return nil
}
