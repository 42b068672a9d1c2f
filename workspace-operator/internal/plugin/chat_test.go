// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestChatAndLogs(t *testing.T) {
	t.Parallel()
	w := ready(t, newNamespace(t), "talker")
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("# ours\nsesame\n"), 0o600))

	t.Run("a question is answered as a stream, with the system message before it", func(t *testing.T) {
		r := online(t, w.Namespace, "chat", w.Name, "What is Kaito?", "--system", "Be brief.", "--max-tokens", "50")
		require.Zero(t, r.code, r.errOut)
		assert.Equal(t, "You asked: What is Kaito?\n", r.out)
		got := shared.engine.last()
		assert.Equal(t, "/v1/chat/completions", got.Path)
		assert.Equal(t, "talker", got.Model, "the Workspace's name is its model's")
		assert.True(t, got.Stream)
		assert.Equal(t, 50, got.MaxTokens)
		require.Len(t, got.Messages, 2)
		assert.Equal(t, "system", got.Messages[0].Role)
		assert.Equal(t, "Be brief.", got.Messages[0].Content)
	})
	t.Run("a text is continued where the model does not chat", func(t *testing.T) {
		r := online(t, w.Namespace, "chat", w.Name, "Once upon", "--completion")
		require.Zero(t, r.code, r.errOut)
		assert.Equal(t, "You asked: Once upon\n", r.out)
		assert.Equal(t, "Once upon", shared.engine.last().Prompt)
	})
	t.Run("reads the prompt from a pipe", func(t *testing.T) {
		r := start(t, strings.NewReader("from a file"), in(w.Namespace, "chat", w.Name)...).wait()
		require.Zero(t, r.code, r.errOut)
		assert.Equal(t, "You asked: from a file\n", r.out)
	})
	t.Run("marks a truncated answer", func(t *testing.T) {
		r := online(t, w.Namespace, "chat", w.Name, "hi", "--max-tokens", "3")
		assert.Zero(t, r.code)
		assert.Equal(t, "You asked: hi\n", r.out)
		assert.Contains(t, r.errOut, "truncated")
	})
	t.Run("a key opens what is locked", func(t *testing.T) {
		without := online(t, w.Namespace, "chat", w.Name, "locked")
		assert.Equal(t, 2, without.code)
		assert.Contains(t, without.errOut, "KAITO_API_KEY")
		with := online(t, w.Namespace, "chat", w.Name, "locked", "--api-key-file", key)
		assert.Zero(t, with.code, with.errOut)
	})
	for question, want := range map[string]string{
		"break": "the answer is incomplete", "fail": "out of memory", "full": "try again in 7 s", "": "prompt is empty",
	} {
		t.Run("reports an error: "+want, func(t *testing.T) {
			r := online(t, w.Namespace, "chat", w.Name, question)
			assert.Equal(t, 2, r.code)
			assert.Contains(t, r.errOut, want)
		})
	}
	t.Run("an interrupt ends an answer", func(t *testing.T) {
		r := start(t, nil, in(w.Namespace, "chat", w.Name, "forever")...)
		r.until("You asked: forever")
		r.signals <- os.Interrupt
		assert.Equal(t, 130, r.wait().code)
	})
	t.Run("logs are the engine's, and a container that is not there names those that are", func(t *testing.T) {
		r := online(t, w.Namespace, "logs", w.Name)
		assert.Zero(t, r.code, r.errOut)
		assert.Equal(t, logLine+"\n", r.out)
		wrong := online(t, w.Namespace, "logs", w.Name, "-c", "trainer")
		assert.Equal(t, 2, wrong.code)
		assert.Contains(t, wrong.errOut, "engine, gateway")
	})
	t.Run("logs are followed until an interrupt", func(t *testing.T) {
		r := start(t, nil, in(w.Namespace, "logs", w.Name, "-f", "--all-containers")...)
		r.until("/engine] " + logLine)
		r.until("/gateway] " + logLine)
		r.signals <- os.Interrupt
		r.wait()
	})
}

func TestWhatDoesNotAnswerYetSaysWhereItStands(t *testing.T) {
	t.Parallel()
	w := serving(newNamespace(t), "early")
	create(t, w)
	release(t, w)
	eventuallyMachine(t, w)
	r := online(t, w.Namespace, "chat", w.Name, "hi")
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.errOut, "kubectl kaito status early -n "+w.Namespace+" -w")
	logs := online(t, w.Namespace, "logs", w.Name)
	assert.Equal(t, 2, logs.code)
	assert.Contains(t, logs.errOut, "has no pods")
}
