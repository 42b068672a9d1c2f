// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// engine speaks as the gateway does: a stream of chat completions, and errors in OpenAI's shape. What it answers
// depends on the question.
type engine struct {
	mutex    sync.Mutex
	requests []asked
}

// asked is a request as it came.
type asked struct {
	Path, Authorization string
	Model               string
	Messages            []struct{ Role, Content string }
	Prompt              string
	MaxTokens           int  `json:"max_tokens"`
	Stream              bool `json:"stream"`
}

// last returns the last request.
func (e *engine) last() asked {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.requests[len(e.requests)-1]
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := asked{Path: r.URL.Path, Authorization: r.Header.Get("Authorization")}
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mutex.Lock()
	e.requests = append(e.requests, a)
	e.mutex.Unlock()
	question := a.Prompt
	if len(a.Messages) > 0 {
		question = a.Messages[len(a.Messages)-1].Content
	}
	switch {
	case strings.Contains(question, "locked") && a.Authorization != "Bearer sesame":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprint(w, `{"error":{"message":"No such key.","code":"invalid_api_key"}}`) // the client notices
		return
	case strings.Contains(question, "full"):
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = fmt.Fprint(w, `{"error":{"message":"The queue is full.","code":"queue_full"}}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(format string, args ...any) {
		_, _ = fmt.Fprintf(w, format+"\n\n", args...)
		_ = http.NewResponseController(w).Flush()
	}
	send(": keep-alive")
	for _, word := range []string{"You ", "asked: ", question} {
		text, _ := json.Marshal(word) // a string marshals
		if a.Path == "/v1/completions" {
			send(`data: {"choices":[{"text":%s}]}`, text)
			continue
		}
		send(`data: {"choices":[{"delta":{"content":%s}}]}`, text)
	}
	switch {
	case strings.Contains(question, "break"):
		return // without [DONE]
	case strings.Contains(question, "forever"):
		<-r.Context().Done()
		return
	case strings.Contains(question, "fail"):
		send(`data: {"error":{"message":"out of memory","code":500}}`)
		return
	case a.MaxTokens == 3:
		send(`data: {"choices":[{"delta":{},"finish_reason":"length"}]}`)
	default:
		send(`data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`)
	}
	send("data: [DONE]")
}
