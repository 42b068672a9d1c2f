// SPDX-License-Identifier: Apache-2.0

package message_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"kaito.sh/tuning-operator/internal/message"
)

func TestEncodeStaysWithinMaxBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := message.Result{
			Step:    message.StepPush,
			Reason:  "PushFailed",
			Message: rapid.StringN(0, 6000, 12000).Draw(t, "message"),
			Push:    &message.Push{Image: "registry.example/x:1", Digest: "sha256:" + strings.Repeat("a", 64)},
		}
		out, err := in.Encode()
		require.NoError(t, err)
		assert.LessOrEqual(t, len(out), message.MaxBytes)
		back, err := message.Parse(string(out))
		require.NoError(t, err)
		assert.Equal(t, in.Push, back.Push, "the numbers survive, the text is what is shortened")
	})
}

func TestEncodeRefusesNumbersThatDoNotFit(t *testing.T) {
	_, err := message.Result{Push: &message.Push{Image: strings.Repeat("x", 5000)}}.Encode()
	assert.ErrorContains(t, err, "the limit is 4096")
}

func TestParseRefusesOtherFormats(t *testing.T) {
	for name, text := range map[string]string{
		"the end of a log":       "Traceback (most recent call last):\n  File \"train.py\"",
		"nothing":                "",
		"JSON of something else": `{"level":"info"}`,
		"a later version":        `{"version":2,"step":"push"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := message.Parse(text)
			assert.ErrorIs(t, err, message.ErrNotOurs)
		})
	}
}

func TestWriteWritesOneJSONDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "termination-log")
	require.NoError(t, message.Result{Step: message.StepFetch, Fetch: &message.Fetch{Rows: 3}}.Write(path))
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(raw, &doc))
	assert.EqualValues(t, 1, doc["version"])
	assert.Equal(t, "fetch", doc["step"])
}

func TestWriteWithoutAPathWritesNothing(t *testing.T) {
	assert.NoError(t, message.Result{}.Write(""))
}
