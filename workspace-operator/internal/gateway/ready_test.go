// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// healthy is an engine that lists the given models.
func healthy(models string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			_, _ = io.WriteString(w, models)
		}
	}
}

const listed = `{"object":"list","data":[{"id":"phi-3-mini-128k-instruct"},{"id":"workspace-phi-3"}]}`

func TestReadyIsAHealthyEngineThatListsTheModel(t *testing.T) {
	for name, tc := range map[string]struct {
		engine http.HandlerFunc
		status int
		says   string
	}{
		"healthy and listed": {healthy(listed), 200, `"model":"workspace-phi-3"`},
		"loading": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, 503,
			"/health answers with status 503"},
		"another model": {healthy(`{"data":[{"id":"workspace-phi-4"}]}`), 503, `does not list model \"workspace-phi-3\"`},
		"no list":       {healthy(`<html>`), 503, "not a list of models"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, tc.engine)
			res, body := f.do(t, http.MethodGet, "/readyz", "")
			require.Equal(t, tc.status, res.StatusCode, body)
			assert.Contains(t, body, tc.says)
			if tc.status != http.StatusOK {
				requireError(t, res, body, http.StatusServiceUnavailable, "not_ready")
			}
			res, _ = f.do(t, http.MethodGet, "/healthz", "")
			assert.Equal(t, http.StatusOK, res.StatusCode, "the gateway is alive independent of the engine")
		})
	}
}

func TestReadinessProbesTheEngineAtMostOncePerSecond(t *testing.T) {
	f := start(t, healthy(listed))
	assert.Empty(t, f.requests(), "no request was sent")
	for range 5 {
		res, _ := f.do(t, http.MethodGet, "/readyz", "")
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	require.Len(t, f.requests(), 2)
	assert.Equal(t, "/health", f.requests()[0].path)
	assert.Equal(t, "/v1/models", f.requests()[1].path)
	f.clock.Step(readyFor)
	_, _ = f.do(t, http.MethodHead, "/readyz", "")
	assert.Len(t, f.requests(), 4)
}

func TestAllWhoAskAtOnceShareOneLook(t *testing.T) {
	var looks atomic.Int32
	release := make(chan struct{})
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			looks.Add(1)
			<-release
		}
		healthy(listed)(w, r)
	})
	var all sync.WaitGroup
	statuses := make([]int, 20)
	for i := range statuses {
		req := f.request(t, t.Context(), http.MethodGet, "/readyz", "")
		all.Go(func() {
			res, err := f.client.Do(req)
			if err == nil {
				statuses[i] = res.StatusCode
				_ = res.Body.Close()
			}
		})
	}
	until(t, "one looks", func() bool { return looks.Load() == 1 })
	close(release)
	all.Wait()
	for _, status := range statuses {
		assert.Equal(t, http.StatusOK, status)
	}
	assert.Equal(t, int32(1), looks.Load())
}

func TestOwnPathsAnswerReadsOnly(t *testing.T) {
	f := start(t, healthy(listed))
	for _, path := range statusPaths {
		res, body := f.do(t, http.MethodPost, path, "")
		requireError(t, res, body, http.StatusMethodNotAllowed, "method_not_allowed")
	}
}
