// SPDX-License-Identifier: Apache-2.0

package dataset_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/tuning-operator/internal/runner/dataset"
)

// verdict is what the trainer's libraries said about a dataset of the corpus: make test-trainer.
type verdict struct {
	Settings struct {
		MessagesColumn, PromptColumn, CompletionColumn, TextColumn string
	}
	Rows    int64
	Refused bool
}

// TestTheCheckAgreesWithTheLibraries: what is accepted is loaded with as many rows, and what is refused would have
// failed on a GPU.
func TestTheCheckAgreesWithTheLibraries(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "verdicts.json"))
	require.NoError(t, err)
	var verdicts map[string]verdict
	require.NoError(t, json.Unmarshal(text, &verdicts))
	folders, err := os.ReadDir(filepath.Join("testdata", "corpus"))
	require.NoError(t, err)
	require.Len(t, folders, len(verdicts))
	require.Greater(t, len(verdicts), 100)
	for name, want := range verdicts {
		t.Run(name, func(t *testing.T) {
			s := want.Settings
			got, err := dataset.Inspect(filepath.Join("testdata", "corpus", name), "", dataset.Columns{
				Messages: s.MessagesColumn, Prompt: s.PromptColumn, Completion: s.CompletionColumn, Text: s.TextColumn,
			})
			if want.Refused {
				assert.Error(t, err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, want.Rows, got.Rows)
		})
	}
}
