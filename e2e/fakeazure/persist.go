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

// saved is what survives a restart.
type saved struct {
	Pools      map[string]*pool      `json:"pools"`
	Operations map[string]*operation `json:"operations"`
	Power      string                `json:"power"`
	Tokens     map[string]time.Time  `json:"tokens"`
	Serial     int                   `json:"serial"`
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
	s.pools, s.operations, s.power, s.tokens, s.serial = state.Pools, state.Operations, state.Power, state.Tokens, state.Serial
	return nil
}

// save writes state and addresses; a reader sees the old file or the new one, never half of one.
func (s *Server) save() error {
	var addresses [3]string
	for i, listener := range s.listeners {
		addresses[i] = listener.Addr().String()
	}
	state := saved{Pools: s.pools, Operations: s.operations, Power: s.power, Tokens: s.tokens, Serial: s.serial}
	return errors.Join(writeJSON(filepath.Join(s.options.Dir, stateFile), state), writeJSON(filepath.Join(s.options.Dir, addressFile), addresses))
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
