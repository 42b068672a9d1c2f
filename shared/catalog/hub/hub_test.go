// SPDX-License-Identifier: Apache-2.0

package hub_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/catalog/hub"
)

const (
	sha    = "0123456789abcdef0123456789abcdef01234567"
	config = `{"architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
		"num_key_value_heads": 8, "max_position_embeddings": 4096, "torch_dtype": "bfloat16"}`
	info    = "/api/models/acme/tiny/revision/main"
	configs = "/acme/tiny/resolve/" + sha + "/config.json"
	index   = "/acme/tiny/resolve/" + sha + "/model.safetensors.index.json"
)

// serve answers by path, and with 404 for other paths.
func serve(t *testing.T, answers map[string]string) hub.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, found := answers[r.URL.Path]
		switch {
		case !found:
			w.WriteHeader(http.StatusNotFound)
		case body == "gated" && r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case body == "busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = w.Write([]byte(body))
		}
	}))
	t.Cleanup(server.Close)
	return hub.Client{HTTP: server.Client(), Endpoint: server.URL + "/"}
}

func read(t *testing.T, c hub.Client, reference string) (catalog.Model, error) {
	t.Helper()
	known, err := catalog.Load()
	require.NoError(t, err)
	ref, err := catalog.ParseReference(reference)
	require.NoError(t, err)
	return c.Model(context.Background(), known, ref)
}

func TestModelIsPinned(t *testing.T) {
	t.Run("the size of shards is that of their index", func(t *testing.T) {
		c := serve(t, map[string]string{
			info: `{"sha": "` + sha + `", "siblings": [{"rfilename": "model.safetensors.index.json", "size": 9},
				{"rfilename": "model-1.safetensors", "size": 2000}, {"rfilename": "original/model-1.safetensors", "size": 2000}]}`,
			configs: config, index: `{"metadata": {"total_size": 2000.0}, "weight_map": {}}`,
		})
		m, err := read(t, c, "acme/tiny")
		require.NoError(t, err)
		assert.Equal(t, int64(2000), m.WeightsBytes)
		assert.Equal(t, sha, m.Revision)
		assert.Equal(t, 64, m.HeadDim)
	})
	t.Run("a single file", func(t *testing.T) {
		c := serve(
			t,
			map[string]string{
				info:    `{"sha": "` + sha + `", "siblings": [{"rfilename": "model.safetensors", "size": 77}]}`,
				configs: config,
			},
		)
		m, err := read(t, c, "acme/tiny")
		require.NoError(t, err)
		assert.Equal(t, int64(77), m.WeightsBytes)
	})
}

func TestErrorsHaveAReason(t *testing.T) {
	files := `{"sha": "` + sha + `", "siblings": [{"rfilename": "model.safetensors", "size": 77}]}`
	for name, tc := range map[string]struct {
		answers map[string]string
		reason  hub.Reason
	}{
		"no repository":               {nil, hub.NotFound},
		"a licence to accept":         {map[string]string{info: "gated"}, hub.Denied},
		"a server that is busy":       {map[string]string{info: "busy"}, hub.Unreachable},
		"an answer that is not JSON":  {map[string]string{info: "<html>"}, hub.Unusable},
		"no config":                   {map[string]string{info: files}, hub.NotFound},
		"a config without end":        {map[string]string{info: files, configs: `"` + strings.Repeat("x", 2<<20) + `"`}, hub.Unusable},
		"weights in another format":   {map[string]string{info: `{"sha": "` + sha + `", "siblings": [{"rfilename": "model.gguf"}]}`, configs: config}, hub.Unusable},
		"a repository without commit": {map[string]string{info: `{}`}, hub.Unusable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, serve(t, tc.answers), "acme/tiny")
			var refused *hub.Error
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, tc.reason, refused.Reason, err)
			assert.Equal(t, tc.reason == hub.Unreachable, refused.Retryable())
			assert.Contains(t, err.Error(), "acme/tiny")
		})
	}
	t.Run("an unreachable server", func(t *testing.T) {
		_, err := read(t, hub.Client{Endpoint: "http://127.0.0.1:1"}, "acme/tiny")
		var refused *hub.Error
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, hub.Unreachable, refused.Reason)
	})
	t.Run("a config that is not sufficient for a plan", func(t *testing.T) {
		_, err := read(t, serve(t, map[string]string{info: files, configs: `{"architectures": ["X"]}`}), "acme/tiny")
		var refused *catalog.ConfigError
		require.ErrorAs(t, err, &refused)
	})
}
