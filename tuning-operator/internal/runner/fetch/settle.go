// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
)

// settler records downloaded parts and computes the digest of the file, concurrently with the download. On a fast
// network the sync of the disk and the hash take as long as the download.
type settler struct {
	state *state
	parts chan int
	ended chan struct{}

	mu  sync.Mutex
	err error

	hash hash.Hash
	next int // the first part that is not in the hash
}

// newSettler starts with the parts of an earlier run. Its channel has room for all other parts, so that add never
// blocks.
func newSettler(st *state) *settler {
	s := &settler{state: st, parts: make(chan int, len(st.doc.Done)), ended: make(chan struct{}), hash: sha256.New()}
	go func() {
		defer close(s.ended)
		s.settle(s.hashParts())
		for n := range s.parts {
			err := st.done(n)
			if err == nil {
				err = s.hashParts()
			}
			s.settle(err)
		}
	}()
	return s
}

// add records a downloaded part. It returns an error of earlier parts.
func (s *settler) add(n int) error {
	s.parts <- n
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *settler) settle(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// hashParts adds to the hash the consecutive parts from the beginning.
func (s *settler) hashParts() error {
	for ; s.next < len(s.state.doc.Done) && s.state.isDone(s.next); s.next++ {
		from, to := s.state.bounds(s.next)
		if _, err := io.Copy(s.hash, io.NewSectionReader(s.state.file, from, to-from+1)); err != nil {
			return fmt.Errorf("checking the download: %w", err)
		}
	}
	return nil
}

// end waits until all parts are recorded. It returns the digest in hex, or "" if parts are missing.
func (s *settler) end() (sum string, err error) {
	close(s.parts)
	<-s.ended
	if s.err != nil || s.next < len(s.state.doc.Done) {
		return "", s.err
	}
	return hex.EncodeToString(s.hash.Sum(nil)), nil
}
