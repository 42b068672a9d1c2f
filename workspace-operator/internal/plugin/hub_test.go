// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Not parallel: the hub's address comes from the environment.
func TestHubFlagReadsAModelOutsideTheCatalogue(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	asked := 0
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		answer := `{"architectures":["LlamaForCausalLM"],"hidden_size":2048,"num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,
			"intermediate_size":8192,"vocab_size":128256,"max_position_embeddings":8192,"torch_dtype":"bfloat16"}`
		if strings.HasPrefix(r.URL.Path, "/api/") {
			answer = `{"sha":"` + commit + `","siblings":[{"rfilename":"model.safetensors","size":2471645608}]}`
		}
		_, _ = w.Write([]byte(answer)) // the client notices
	}))
	defer hub.Close()
	t.Setenv("HF_ENDPOINT", hub.URL)
	without := offline(t, nil, "plan", "example/llama")
	assert.Equal(t, 2, without.code)
	assert.Zero(t, asked, "nothing is asked of a network without --hub")

	r := offline(t, nil, "plan", "example/llama", "--hub", "-o", "json")
	require.Zero(t, r.code, r.errOut)
	got := answers(t, r)
	assert.Equal(t, "example/llama", got[0].Model)
	assert.Equal(t, commit, got[0].Revision)
	assert.NotNil(t, got[0].Chosen)
}
