// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// verdicts are the engine's own on the cases of hack/catalogue, as `make catalogue` has asked for them.
type verdicts struct {
	Version string
	Cases   []struct {
		Config map[string]any
		// Words are what the engine accepted; nil: the key is refused.
		Words []string
		// Verdict of the engine on the words, and Own on the file that has the key: accepted, or refused and why.
		Verdict, Own string
	}
}

// TestVerdicts compares what we make of each key, or that we refuse it, with the engine's verdict.
func TestVerdicts(t *testing.T) {
	files, err := filepath.Glob("testdata/verdicts-*.json")
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var said verdicts
		require.NoError(t, json.Unmarshal(text, &said))
		require.GreaterOrEqual(t, len(said.Cases), 40)
		for _, c := range said.Cases {
			for key, value := range c.Config {
				t.Run(said.Version+" "+key, func(t *testing.T) {
					words, err := commandLine(table(t, said.Version), key, value)
					if c.Words == nil {
						require.Error(t, err, "the engine: %s", c.Own)
						assert.Regexp(t, "^refused", c.Own)
						return
					}
					require.NoError(t, err)
					assert.Equal(t, "accepted", c.Verdict)
					assert.Equal(t, c.Words, words)
					_, err = table(t, said.Version).Parse(words)
					assert.NoError(t, err, "the simulated engine refuses what the engine accepts")
				})
			}
		}
	}
}

// commandLine is a key as a pod's arguments have it.
func commandLine(t *Table, key string, value any) ([]string, error) {
	setting, err := t.Setting(key, value)
	if err != nil {
		return nil, err
	}
	if setting == nil {
		return []string{}, nil
	}
	word := "--" + setting.Name
	if len(setting.Values) == 1 {
		return []string{word + "=" + strings.Join(setting.Values, "")}, nil
	}
	return append([]string{word}, setting.Values...), nil
}
