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
	// vLLM 0.10.2, and 0.32.0, which lists the base model's names alone.
	for _, engine := range []string{unknown, strings.Replace(unknown, "exist.", "exist. Valid aliases: b.", 1)} {
		f := missing(t, engine)
		res, body := f.do(t, http.MethodPost, "/v1/completions", `{"model":"x"}`)
		got := requireError(t, res, body, http.StatusNotFound, "model_not_found")
		assert.Equal(t, "The model x does not exist. Available: a, b.", got.Message)
	}
}

func TestALongAnswerPassesAsItIs(t *testing.T) {
	for name, size := range map[string]int{"shorter": maxProbeBytes - 1, "as long": maxProbeBytes, "longer": maxProbeBytes + 1} {
		t.Run(name, func(t *testing.T) {
			const frame = `{"error":{"message":""}}`
			long := strings.Replace(frame, `""`, `"`+strings.Repeat("x", size-len(frame))+`"`, 1)
			res, body := missing(t, long).do(t, http.MethodPost, "/v1/completions", `{"model":"x"}`)
			assert.Equal(t, http.StatusNotFound, res.StatusCode)
			assert.Len(t, body, size)
			assert.Equal(t, long, body)
		})
	}
}

func TestErrorsHaveOpenAIsForm(t *testing.T) {
	for name, c := range map[string]struct {
		status                int
		body, message, asItIs string
	}{
		"FastAPI's text":          {status: 404, body: `{"detail":"Not Found"}`, message: "Not Found"},
		"FastAPI's list":          {status: 422, body: `{"detail":[{"loc":["body","n"],"msg":"field required"}]}`, message: "field required"},
		"plain text":              {status: 500, body: "Internal Server Error", message: "status 500"},
		"nothing":                 {status: 503, message: "status 503"},
		"a list":                  {status: 400, body: `[]`, message: "status 400"},
		"OpenAI's own, untouched": {status: 400, asItIs: `{"error":{"message":"too long","type":"BadRequestError","code":400}}`},
		"Anthropic's, untouched":  {status: 400, asItIs: `{"type":"error","error":{"type":"invalid_request_error","message":"m"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body+c.asItIs)
			})
			res, body := f.do(t, http.MethodPost, "/v1/completions", `{}`)
			assert.Equal(t, c.status, res.StatusCode)
			if c.asItIs != "" {
				assert.Equal(t, c.asItIs, body)
				return
			}
			got := requireError(t, res, body, c.status, strings.ReplaceAll(strings.ToLower(http.StatusText(c.status)), " ", "_"))
			assert.Contains(t, got.Message, c.message)
		})
	}
}

// TestHeadIsGetWithoutTheBody: vLLM answers HEAD with 405.
func TestHeadIsGetWithoutTheBody(t *testing.T) {
	f := start(t, answer(`{"data":[]}`))
	res, body := f.do(t, http.MethodHead, "/v1/models", "")
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Empty(t, body)
	assert.Equal(t, "11", res.Header.Get("Content-Length"))
	assert.Equal(t, http.MethodGet, f.requests()[0].method)
	res, _ = f.do(t, http.MethodHead, "/v1/completions", "")
	assert.Equal(t, http.StatusMethodNotAllowed, res.StatusCode)
}
