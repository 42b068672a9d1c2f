// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"encoding/json"
	"net/http"
	"time"
)

// stream answers with server-sent events, one a token, as vLLM does: a chat's first event names the role, the last one
// with a choice gives the reason for the end, then comes the usage where it was asked for, then [DONE]. It returns
// false where the client left.
func (e *Engine) stream(w http.ResponseWriter, r *http.Request, j *job, began time.Time) bool {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	control := http.NewResponseController(w)
	send := func(chunk completion) bool {
		data, err := json.Marshal(chunk)
		if err != nil {
			return false
		}
		if _, err := w.Write(append(append([]byte("data: "), data...), '\n', '\n')); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	event := func(make func(i int) choice) bool {
		chunk := e.completion(j, "text_completion", "chat.completion.chunk")
		for i := range j.choice {
			c := make(i)
			c.Index = i
			chunk.Choices = append(chunk.Choices, c)
		}
		return send(chunk)
	}
	piece := func(text string, finish *string) func(int) choice {
		return func(int) choice {
			if j.chat {
				return choice{Delta: &said{Content: text}, FinishReason: finish}
			}
			return choice{Text: &text, FinishReason: finish}
		}
	}
	for i, token := range j.tokens {
		if !e.token(r.Context(), i, began, j) {
			return false
		}
		if i == 0 && j.chat && !event(func(int) choice { return choice{Delta: &said{Role: "assistant"}} }) {
			return false
		}
		if !event(piece(token, nil)) {
			return false
		}
	}
	if !event(piece("", &j.finish)) {
		return false
	}
	if j.req.StreamOptions.IncludeUsage {
		last := e.completion(j, "text_completion", "chat.completion.chunk")
		last.Usage = j.usage()
		if !send(last) {
			return false
		}
	}
	_, err := w.Write([]byte("data: [DONE]\n\n"))
	return err == nil
}
