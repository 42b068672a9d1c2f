// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
)

// adminRoutes are what vLLM listens for besides OpenAI's calls. Those that change something change something here, and
// every call is noted: AdminCalls is empty behind a gateway that keeps them closed.
func (e *Engine) adminRoutes(mux *http.ServeMux) {
	always := map[string]http.HandlerFunc{
		"GET /version":      e.always(map[string]string{"version": "0.11.0+simulated"}),
		"GET /ping":         e.always(map[string]string{}),
		"GET /load":         e.load,
		"POST /tokenize":    e.tokenize,
		"POST /invocations": e.invocations,
		"GET /openapi.json": e.always(map[string]string{"openapi": "3.1.0"}),
	}
	runtimeLoRA := map[string]http.HandlerFunc{
		"POST /v1/load_lora_adapter":   e.loadAdapter,
		"POST /v1/unload_lora_adapter": e.unloadAdapter,
	}
	development := map[string]http.HandlerFunc{
		"POST /pause":                       e.hold(false, "paused"),
		"POST /resume":                      e.release("resumed"),
		"GET /is_paused":                    e.state("is_paused", func() bool { return e.resumed != nil && !e.asleep }),
		"POST /sleep":                       e.hold(true, ""),
		"POST /wake_up":                     e.release(""),
		"GET /is_sleeping":                  e.state("is_sleeping", func() bool { return e.asleep }),
		"POST /update_weights":              e.updateWeights,
		"POST /init_weight_transfer_engine": e.always(map[string]string{"message": "Weight transfer initialized"}),
		"POST /collective_rpc":              e.always(map[string]any{"results": []any{nil}}),
		"POST /reset_prefix_cache":          e.always(map[string]string{}),
		"POST /reset_mm_cache":              e.always(map[string]string{}),
		"GET /server_info":                  e.always(map[string]any{"vllm_config": "simulated"}),
		"POST /start_profile":               e.always(map[string]string{}),
		"POST /stop_profile":                e.always(map[string]string{}),
		"POST /abort_requests":              e.always(map[string]any{"status": "aborted", "aborted": 0}),
		"POST /scale_elastic_ep":            e.always(map[string]string{"message": "Scaled to 1 data parallel engines"}),
	}
	groups := []map[string]http.HandlerFunc{always}
	if e.opts.RuntimeLoRA && e.opts.EnableLoRA {
		groups = append(groups, runtimeLoRA)
	}
	if e.opts.DevMode {
		groups = append(groups, development)
	}
	for _, group := range groups {
		for pattern, handler := range group {
			mux.HandleFunc(pattern, e.noted(handler))
		}
	}
}

func (e *Engine) noted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.calls = append(e.calls, r.Method+" "+r.URL.Path)
		e.mu.Unlock()
		next(w, r)
	}
}

func (e *Engine) always(answer any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, answer) }
}

// hold stops generation: no token comes until it is released.
func (e *Engine) hold(asleep bool, status string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		e.Stall()
		e.mu.Lock()
		e.asleep = e.asleep || asleep
		e.mu.Unlock()
		e.answerStatus(w, status)
	}
}

func (e *Engine) release(status string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		if e.resumed != nil {
			close(e.resumed)
		}
		e.resumed, e.asleep = nil, false
		e.mu.Unlock()
		e.answerStatus(w, status)
	}
}

func (e *Engine) answerStatus(w http.ResponseWriter, status string) {
	if status != "" {
		writeJSON(w, http.StatusOK, map[string]string{"status": status})
	}
}

// state answers a question about the engine, which is looked at under its lock.
func (e *Engine) state(name string, is func() bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		answer := is()
		e.mu.Unlock()
		writeJSON(w, http.StatusOK, map[string]bool{name: answer})
	}
}

// updateWeights shows in every answer from then on.
func (e *Engine) updateWeights(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	e.weights++
	e.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]string{"message": "Weights updated"})
}

// invocations is SageMaker's door to both calls: it asks what the body is and answers as the call of that kind.
func (e *Engine) invocations(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var keys map[string]json.RawMessage
	switch err := json.Unmarshal(body, &keys); {
	case err == nil && keys["messages"] != nil:
		e.chatCompletions(w, r)
	case err == nil && keys["prompt"] != nil:
		e.completions(w, r)
	default:
		writeError(w, http.StatusBadRequest, "BadRequestError", "", "Cannot find suitable handler for request.")
	}
}

// load tells how many requests run or wait.
func (e *Engine) load(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]int64{"server_load": e.meters.load.Load()})
}

// tokenize counts the tokens of a prompt; their numbers are their places.
func (e *Engine) tokenize(w http.ResponseWriter, r *http.Request) {
	req := readRequest[struct {
		Prompt string `json:"prompt"`
	}](w, r)
	if req == nil {
		return
	}
	numbers := []int{}
	for i := range tokenize(req.Prompt) {
		numbers = append(numbers, i)
	}
	writeJSON(
		w, http.StatusOK, map[string]any{"count": len(numbers), "max_model_len": e.opts.MaxModelLen, "tokens": numbers},
	)
}
