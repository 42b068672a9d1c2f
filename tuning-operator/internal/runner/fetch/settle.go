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

// settler records the parts that have come, and takes the file's digest along, beside the download: a disk's sync and a
// hash take as long as the network does where that is quick.
type settler struct {
	state *state
	parts chan int
	ended chan struct{}

	mu  sync.Mutex
	err error

	hash hash.Hash
	next int // the first part that is not in the hash
}

// newSettler begins with the parts that an earlier run has left. There is room for all others, so that nobody waits to
// add one.
func newSettler(st *state) *settler {
	s := &settler{state: st, parts: make(chan int, len(st.doc.Done)), ended: make(chan struct{}), hash: sha256.New()}
	go func() {
		defer close(s.ended)
		s.settle(s.takeAlong())
		for n := range s.parts {
			err := st.done(n)
			if err == nil {
				err = s.takeAlong()
			}
			s.settle(err)
		}
	}()
	return s
}

// add gives a part that has come, and returns an error of those before it.
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

// takeAlong puts the parts that are there, as far as they follow one another from the beginning, into the hash.
func (s *settler) takeAlong() error {
	for ; s.next < len(s.state.doc.Done) && s.state.isDone(s.next); s.next++ {
		from, to := s.state.bounds(s.next)
		if _, err := io.Copy(s.hash, io.NewSectionReader(s.state.file, from, to-from+1)); err != nil {
			return fmt.Errorf("checking the download: %w", err)
		}
	}
	return nil
}

// end waits until all parts are recorded. The digest, in hex, is "" where parts are missing.
func (s *settler) end() (sum string, err error) {
	close(s.parts)
	<-s.ended
	if s.err != nil || s.next < len(s.state.doc.Done) {
		return "", s.err
	}
	return hex.EncodeToString(s.hash.Sum(nil)), nil
}
