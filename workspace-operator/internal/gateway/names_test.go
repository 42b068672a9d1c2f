// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// unknown is the engine's refusal of a model that it does not have.
const unknown = `{"error":{"message":"The model x does not exist.","type":"NotFoundError","param":"model","code":404}}`

// missing answers with a 404 and body, and has the models a and b.
func missing(t *testing.T, body string) *fixture {
	t.Helper()
	return start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			_, _ = io.WriteString(w, `{"data":[{"id":"b"},{"id":"a"}]}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, body)
	})
}

func TestAnUnknownModelIsAnsweredWithTheNames(t *testing.T) {
	f := missing(t, unknown)
	res, body := f.do(t, http.MethodPost, "/v1/completions", `{"model":"x"}`)
	got := requireError(t, res, body, http.StatusNotFound, "model_not_found")
	assert.Equal(t, "The model x does not exist. Available: a, b.", got.Message)
}

func TestALongAnswerPassesAsItIs(t *testing.T) {
	for name, size := range map[string]int{"shorter": maxProbeBytes - 1, "as long": maxProbeBytes, "longer": maxProbeBytes + 1} {
		t.Run(name, func(t *testing.T) {
			long := strings.Repeat("x", size)
			res, body := missing(t, long).do(t, http.MethodPost, "/v1/completions", `{"model":"x"}`)
			assert.Equal(t, http.StatusNotFound, res.StatusCode)
			assert.Equal(t, size, len(body))
			assert.Equal(t, long, body)
		})
	}
}
