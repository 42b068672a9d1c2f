// SPDX-License-Identifier: Apache-2.0

package simtrainer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// marker says that a checkpoint is whole; it is written last.
const marker = "kaito-complete.json"

type mark struct {
	Step        int    `json:"step"`
	Fingerprint string `json:"fingerprint"`
}

// checkpoints are the whole ones, by step.
func (s Settings) checkpoints() []int {
	entries, err := os.ReadDir(s.Checkpoints)
	if err != nil {
		return nil // none yet
	}
	var steps []int
	for _, entry := range entries {
		number, found := strings.CutPrefix(entry.Name(), "checkpoint-")
		step, err := strconv.Atoi(number)
		if !found || err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(s.Checkpoints, entry.Name(), marker)); err == nil {
			steps = append(steps, step)
		}
	}
	slices.Sort(steps)
	return steps
}

// resume is the step of the newest whole checkpoint, 0 where there is none.
func (s Settings) resume() (int, error) {
	steps := s.checkpoints()
	if len(steps) == 0 {
		return 0, nil
	}
	step := steps[len(steps)-1]
	text, err := os.ReadFile(filepath.Join(s.folder(step), marker))
	if err != nil {
		return 0, fmt.Errorf("reading a checkpoint: %w", err)
	}
	var m mark
	if err := json.Unmarshal(text, &m); err != nil || m.Fingerprint != s.Fingerprint {
		return 0, permanent(
			"CheckpointInvalid",
			"the checkpoint volume holds checkpoints of another training configuration, model or dataset (%s); empty it, or name another volume",
			s.folder(step),
		)
	}
	return step, nil
}

func (s Settings) folder(step int) string {
	return filepath.Join(s.Checkpoints, "checkpoint-"+strconv.Itoa(step))
}

// save writes a checkpoint and takes away those that are too old.
func (s Settings) save(step int) error {
	if err := os.MkdirAll(s.folder(step), 0o755); err != nil { //nolint:gosec // as the real trainer's
		return fmt.Errorf("writing a checkpoint: %w", err)
	}
	text, err := json.Marshal(mark{Step: step, Fingerprint: s.Fingerprint})
	if err != nil {
		return fmt.Errorf("writing a checkpoint: %w", err)
	}
	path := filepath.Join(s.folder(step), marker)
	if err := os.WriteFile(path+".tmp", text, 0o644); err != nil { //nolint:gosec // as the real trainer's
		return fmt.Errorf("writing a checkpoint: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("writing a checkpoint: %w", err)
	}
	steps := s.checkpoints()
	for _, old := range steps[:max(len(steps)-max(s.Keep, 1), 0)] {
		if err := os.RemoveAll(s.folder(old)); err != nil {
			return fmt.Errorf("removing a checkpoint: %w", err)
		}
	}
	return nil
}
