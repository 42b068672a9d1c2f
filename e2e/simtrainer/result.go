// SPDX-License-Identifier: Apache-2.0

package simtrainer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Exit codes of the contract: another attempt would fail the same way; stopped from outside with a checkpoint.
const (
	exitFailed    = 1
	exitPermanent = 65
	exitPreempted = 75
)

// failure has a reason that is carried up unchanged.
type failure struct {
	reason, text string
	permanent    bool
}

func (f *failure) Error() string { return f.text }

func permanent(reason, format string, args ...any) error {
	return &failure{reason: reason, text: fmt.Sprintf(format, args...), permanent: true}
}

var errPreempted = errors.New("stopped from outside")

// Figures are the state of the training.
type Figures struct {
	FromStep       int     `json:"fromStep"`
	Step           int     `json:"step"`
	TotalSteps     int     `json:"totalSteps,omitempty"`
	CheckpointStep int     `json:"checkpointStep,omitempty"`
	Epoch          float64 `json:"epoch,omitempty"`
	Loss           float64 `json:"loss,omitempty"`
	LearningRate   float64 `json:"learningRate,omitempty"`
	Tokens         float64 `json:"tokensPerSecond,omitempty"`
	Elapsed        float64 `json:"elapsedSeconds,omitempty"`
}

// message is the termination message.
type message struct {
	Version   int     `json:"version"`
	Step      string  `json:"step"`
	Reason    string  `json:"reason,omitempty"`
	Message   string  `json:"message,omitempty"`
	Permanent bool    `json:"permanent,omitempty"`
	Train     Figures `json:"train"`
}

// conclude writes how the training ended to where it is looked for, and returns the exit code.
func (s Settings) conclude(figures Figures, ended error) (int, error) {
	m, code := message{Version: 1, Step: "train", Train: figures}, 0
	var known *failure
	switch {
	case ended == nil:
	case errors.Is(ended, errPreempted):
		m.Reason, m.Message, code = "Preempted", fmt.Sprintf(
			"stopped from outside, with a checkpoint at step %d", figures.CheckpointStep,
		), exitPreempted
	case errors.As(ended, &known):
		m.Reason, m.Message, m.Permanent, code = known.reason, known.text, known.permanent, exitFailed
		if known.permanent {
			code = exitPermanent
		}
	default:
		m.Reason, m.Message, code = "TrainingFailed", ended.Error(), exitFailed
	}
	text, err := json.Marshal(m)
	if err != nil {
		return exitFailed, fmt.Errorf("writing the termination message: %w", err)
	}
	var errs []error
	for _, path := range []string{s.TerminationLog, s.Result} {
		if path != "" {
			errs = append(errs, os.WriteFile(path, text, 0o644)) //nolint:gosec // the next container, another user's, reads it
		}
	}
	return code, errors.Join(errs...)
}
