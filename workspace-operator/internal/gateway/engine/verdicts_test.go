// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
)

// TestConfigurationKeysHaveTheEnginesVerdict asks the engine's own parser about each key of hack/catalogue/cases.yaml,
// and us.
func TestConfigurationKeysHaveTheEnginesVerdict(t *testing.T) {
	if *python == "" {
		t.Skip("no vLLM: make test-engine has one")
	}
	interpreter, err := filepath.Abs(*python)
	require.NoError(t, err)
	ask := exec.CommandContext(t.Context(), interpreter, "verdicts.py")
	ask.Dir = filepath.Join("..", "..", "..", "..", "hack", "catalogue")
	ask.Env = append(ask.Environ(), "VLLM_CONFIGURE_LOGGING=0")
	out, err := ask.Output()
	require.NoError(t, err, string(out))
	var said struct {
		Version string
		Cases   []struct {
			Config map[string]any
			// Own is the verdict on the key, and Verdict that on what we make of it.
			Own, Verdict string
		}
	}
	require.NoError(t, json.Unmarshal(out, &said), string(out))
	require.GreaterOrEqual(t, len(said.Cases), 40)
	c, err := catalog.Load()
	require.NoError(t, err)
	at := slices.IndexFunc(c.Engines(), func(e catalog.Engine) bool { return e.Version == said.Version })
	require.GreaterOrEqual(t, at, 0, "the catalogue has no vLLM %s", said.Version)
	release := c.Engines()[at]
	refused := 0
	for _, one := range said.Cases {
		text, err := yaml.Marshal(map[string]any{"vllm": one.Config})
		require.NoError(t, err)
		_, err = vllm.Engine{}.ReadConfig(string(text), release)
		if strings.HasPrefix(one.Own, "refused") && one.Verdict == "" {
			refused++
			assert.Error(t, err, "%s: the engine: %s", text, one.Own)
			continue
		}
		assert.NoError(t, err, "%s", text)
		assert.Equal(t, "accepted", one.Verdict, "%s", text)
	}
	t.Logf("vLLM %s: %d keys, %d of them refused", said.Version, len(said.Cases), refused)
}
