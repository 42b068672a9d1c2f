// SPDX-License-Identifier: Apache-2.0

package simtrainer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/simtrainer"
	"kaito.sh/e2e/sources"
)

const steps = 30

// environment is what the tuning-operator sets, in a folder.
func environment(t *testing.T) (map[string]string, string) {
	t.Helper()
	dir := t.TempDir()
	for path, content := range map[string][]byte{
		"model/config.json": []byte("{}"), "model/model.safetensors": sources.Safetensors("w", 1), "data/train.parquet": []byte("rows"),
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), content, 0o600))
	}
	return map[string]string{
		"KAITO_TRAINING_CONFIG":  `{"version":1,"lora":{"r":16},"trainer":{"max_steps":30}}`,
		"KAITO_MODEL_DIR":        dir + "/model",
		"KAITO_DATA_DIR":         dir + "/data",
		"KAITO_ADAPTER_DIR":      dir + "/adapter",
		"KAITO_CHECKPOINT_DIR":   dir + "/checkpoints",
		"KAITO_CHECKPOINT_STEPS": "10",
		"KAITO_CHECKPOINT_KEEP":  "2",
		"KAITO_RESULT_FILE":      dir + "/train.json",
		"KAITO_TERMINATION_LOG":  dir + "/termination-log",
		"KAITO_BASE_MODEL":       "org/model",
	}, dir
}

type outcome struct {
	Reason    string
	Permanent bool
	Train     simtrainer.Figures
}

func train(
	t *testing.T, ctx context.Context, env map[string]string, dir string, stepTime time.Duration,
) (int, outcome, string) { //nolint:revive // ctx belongs to the run
	t.Helper()
	var out bytes.Buffer
	code, err := simtrainer.Train(ctx, func(name string) string { return env[name] }, &out, stepTime)
	require.NoError(t, err)
	text, err := os.ReadFile(dir + "/termination-log")
	require.NoError(t, err)
	var o outcome
	require.NoError(t, json.Unmarshal(text, &o))
	return code, o, out.String()
}

func TestAWholeRunLeavesAnAdapter(t *testing.T) {
	env, dir := environment(t)
	code, o, _ := train(t, t.Context(), env, dir, time.Microsecond)
	assert.Zero(t, code)
	assert.Equal(t, steps, o.Train.Step)
	text, err := os.ReadFile(dir + "/adapter/adapter_config.json")
	require.NoError(t, err)
	assert.Contains(t, string(text), `"base_model_name_or_path":"org/model"`)
	assert.Contains(t, string(text), `"r":16`)
	assert.FileExists(t, dir+"/adapter/adapter_model.safetensors")
	entries, err := os.ReadDir(dir + "/checkpoints")
	require.NoError(t, err)
	assert.Len(t, entries, 2, "older checkpoints go")
}

func TestAStoppedRunGoesOnFromItsCheckpoint(t *testing.T) {
	env, dir := environment(t)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	code, o, _ := train(t, stopped, env, dir, time.Hour)
	assert.Equal(t, 75, code)
	assert.Equal(t, "Preempted", o.Reason)
	assert.NoDirExists(t, dir+"/adapter", "nothing is pushed of a run that was stopped")

	env["KAITO_CHECKPOINT_STEPS"] = "7"
	halfway, halt := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for halfway.Err() == nil {
			if _, err := os.Stat(dir + "/checkpoints/checkpoint-7/kaito-complete.json"); err == nil {
				halt()
			}
		}
	}()
	_, o, _ = train(t, halfway, env, dir, 2*time.Millisecond)
	halt()
	<-done
	require.GreaterOrEqual(t, o.Train.CheckpointStep, 7)
	from := o.Train.CheckpointStep
	code, o, lines := train(t, t.Context(), env, dir, time.Microsecond)
	assert.Zero(t, code)
	assert.Equal(t, from, o.Train.FromStep)
	assert.NotContains(t, lines, `"step":1,`, "what was done is not done again")
}

func TestACheckpointOfAnotherConfigurationIsRefused(t *testing.T) {
	for name, change := range map[string]func(env map[string]string, dir string){
		"another model": func(env map[string]string, _ string) { env["KAITO_BASE_MODEL"] = "org/other" },
		"another revision": func(_ map[string]string, dir string) {
			writeFacts(t, dir, `{"baseRevision":"r2","datasetDigest":"sha256:1"}`)
		},
		"other data": func(_ map[string]string, dir string) {
			writeFacts(t, dir, `{"baseRevision":"r1","datasetDigest":"sha256:2"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			env, dir := environment(t)
			writeFacts(t, dir, `{"baseRevision":"r1","datasetDigest":"sha256:1"}`)
			env["KAITO_FACTS_FILE"] = dir + "/facts.json"
			train(t, t.Context(), env, dir, time.Microsecond)
			code, _, _ := train(t, t.Context(), env, dir, time.Microsecond)
			assert.Zero(t, code, "nothing has changed")
			change(env, dir)
			code, o, _ := train(t, t.Context(), env, dir, time.Microsecond)
			assert.Equal(t, 65, code)
			assert.Equal(t, "CheckpointInvalid", o.Reason)
			assert.True(t, o.Permanent)
		})
	}
}

func TestAModelThatWasNotFetchedIsNotTrained(t *testing.T) {
	env, dir := environment(t)
	require.NoError(t, os.Remove(dir+"/model/model.safetensors"))
	code, o, _ := train(t, t.Context(), env, dir, time.Microsecond)
	assert.Equal(t, 1, code)
	assert.Equal(t, "TrainingFailed", o.Reason)
}

func writeFacts(t *testing.T, dir, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(dir+"/facts.json", []byte(text), 0o600))
}
