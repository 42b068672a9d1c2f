// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	stateFile   = "state.json"
	addressFile = "addresses.json"
)

// saved is the state that survives a restart: all but the script, the counters and the token buckets.
type saved struct {
	// Now is the cloud's time of the save.
	Now        time.Time             `json:"now"`
	Pools      map[string]*pool      `json:"pools"`
	Operations map[string]*operation `json:"operations"`
	Power      PowerState            `json:"power"`
	Tokens     map[string]time.Time  `json:"tokens"`
	Serial     int                   `json:"serial"`
	Pending    []nodeEvent           `json:"pending,omitempty"`
	Lag        time.Duration         `json:"lag,omitempty"`
}

func (s *Server) load() error {
	text, err := os.ReadFile(filepath.Join(s.options.Dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	state := saved{}
	if err := json.Unmarshal(text, &state); err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	s.pools, s.operations, s.power = state.Pools, state.Operations, state.Power
	s.tokens, s.serial, s.pending = state.Tokens, state.Serial, state.Pending
	s.lag = state.Lag
	if ahead := state.Now.Sub(s.now()); ahead > 0 {
		s.shift(-ahead)
	}
	return nil
}

// shift moves pending times if the cloud's clock is behind the saved time: an accelerated clock starts again in each
// process.
func (s *Server) shift(by time.Duration) {
	for _, op := range s.operations {
		op.Start, op.Due = op.Start.Add(by), op.Due.Add(by)
	}
	for _, p := range s.pools {
		for i := range p.Ghosts {
			p.Ghosts[i].Gone = p.Ghosts[i].Gone.Add(by)
		}
		for _, m := range p.Machines {
			m.Listed, m.JoinAt = m.Listed.Add(by), m.JoinAt.Add(by)
			if r := m.Reimage; r != nil {
				r.From, r.Until = r.From.Add(by), r.Until.Add(by)
			}
		}
	}
}

// save writes state and addresses atomically. The caller holds the mutex.
func (s *Server) save() error {
	var addresses [3]string
	for i, listener := range s.listeners {
		addresses[i] = listener.Addr().String()
	}
	s.dirty = false
	state := saved{
		Now:        s.now(),
		Pools:      s.pools,
		Operations: s.operations,
		Power:      s.power,
		Tokens:     s.tokens,
		Serial:     s.serial,
		Pending:    s.pending,
		Lag:        s.lag,
	}
	return errors.Join(
		writeJSON(filepath.Join(s.options.Dir, stateFile), state),
		writeJSON(filepath.Join(s.options.Dir, addressFile), addresses),
	)
}

func writeJSON(file string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return os.Rename(file+".new", file)
}
