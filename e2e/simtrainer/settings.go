// SPDX-License-Identifier: Apache-2.0

package simtrainer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Settings are the trainer's environment, KAITO_*.
type Settings struct {
	Model, Data, Adapter, Checkpoints string
	Result, TerminationLog            string
	BaseModel                         string
	// Every is how many steps apart checkpoints are, Keep how many stay.
	Every, Keep int
	// Port of GET /progress; 0: none.
	Port int
	// Rank of several nodes; the first one alone writes the adapter.
	Rank int
	// Steps of the whole run.
	Steps int
	// LoRA is the configuration of the adapter, as PEFT takes it.
	LoRA map[string]any
	// Turns says that turns are trained, with a chat template that the adapter then has.
	Turns bool
	// Fingerprint of everything that a checkpoint depends on.
	Fingerprint string
}

// defaultSteps is the length of a run whose configuration does not say max_steps.
const defaultSteps = 40

// Read reads the environment.
func Read(getenv func(string) string) (Settings, error) {
	s := Settings{
		Model:          getenv("KAITO_MODEL_DIR"),
		Data:           getenv("KAITO_DATA_DIR"),
		Adapter:        getenv("KAITO_ADAPTER_DIR"),
		Checkpoints:    getenv("KAITO_CHECKPOINT_DIR"),
		Result:         getenv("KAITO_RESULT_FILE"),
		TerminationLog: getenv("KAITO_TERMINATION_LOG"),
		BaseModel:      getenv("KAITO_BASE_MODEL"),
		Steps:          defaultSteps,
	}
	for name, into := range map[string]*int{
		"KAITO_CHECKPOINT_STEPS": &s.Every, "KAITO_CHECKPOINT_KEEP": &s.Keep,
		"KAITO_PROGRESS_PORT": &s.Port, "JOB_COMPLETION_INDEX": &s.Rank,
	} {
		if text := getenv(name); text != "" {
			var err error
			if *into, err = strconv.Atoi(text); err != nil {
				return s, permanent("ConfigInvalid", "%s is %q: want a number", name, text)
			}
		}
	}
	config := struct {
		Version int            `json:"version"`
		LoRA    map[string]any `json:"lora"`
		Trainer struct {
			MaxSteps int `json:"max_steps"`
		} `json:"trainer"`
	}{}
	raw := getenv("KAITO_TRAINING_CONFIG")
	if err := json.Unmarshal([]byte(raw), &config); err != nil {
		return s, permanent("ConfigInvalid", "KAITO_TRAINING_CONFIG: %v", err)
	}
	if config.Version != 1 {
		return s, permanent(
			"ConfigInvalid", "the training configuration has version %d, this trainer reads 1", config.Version,
		)
	}
	if config.Trainer.MaxSteps > 0 {
		s.Steps = config.Trainer.MaxSteps
	}
	s.LoRA = config.LoRA
	facts, err := readFacts(getenv("KAITO_FACTS_FILE"))
	if err != nil {
		return s, err
	}
	s.Turns = facts.DatasetSchema == "messages" || facts.DatasetSchema == "prompt-completion"
	sum := sha256.Sum256([]byte(strings.Join([]string{raw, s.BaseModel, facts.BaseRevision, facts.DatasetDigest}, "\n")))
	s.Fingerprint = hex.EncodeToString(sum[:8])
	return s, s.check()
}

// facts are what the runner has fetched, as far as a checkpoint depends on it.
type facts struct {
	BaseRevision  string `json:"baseRevision"`
	DatasetDigest string `json:"datasetDigest"`
	DatasetSchema string `json:"datasetSchema"`
}

// readFacts reads the file that fetch wrote; jobs of an older operator name none.
func readFacts(path string) (f facts, err error) {
	if path == "" {
		return f, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("reading what was fetched: %w", err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("reading what was fetched: %w", err)
	}
	return f, nil
}

// check looks at what a real trainer would load.
func (s Settings) check() error {
	for what, wanted := range map[string]struct{ folder, ending string }{
		"weights": {s.Model, ".safetensors"}, "configuration": {s.Model, "config.json"}, "data": {s.Data, ""},
	} {
		found := false
		err := filepath.WalkDir(wanted.folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() && strings.HasSuffix(path, wanted.ending) {
				info, statErr := entry.Info()
				found = found || statErr == nil && info.Size() > 0
			}
			return err
		})
		if err != nil || !found {
			return &failure{reason: "TrainingFailed", text: fmt.Sprintf("there are no %s in %s (%v)", what, wanted.folder, err)}
		}
	}
	return os.MkdirAll(s.Checkpoints, 0o755) //nolint:gosec // other users' containers read it
}
