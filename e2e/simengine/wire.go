// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// errorBody is vLLM's error: OpenAI's shape with the status as a number for its code.
type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    int     `json:"code"`
}

func writeError(w http.ResponseWriter, status int, kind, param, message string) {
	detail := errorDetail{Message: message, Type: kind, Code: status}
	if param != "" {
		detail.Param = &param
	}
	writeJSON(w, status, errorBody{Error: detail})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
}

// request is what the simulation reads of a completion or chat completion; other fields are taken and ignored, as vLLM
// does.
type request struct {
	Model               *string         `json:"model"`
	Messages            []message       `json:"messages"`
	Prompt              json.RawMessage `json:"prompt"`
	Stream              bool            `json:"stream"`
	StreamOptions       streamOptions   `json:"stream_options"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	N                   *int            `json:"n"`
	Temperature         *float64        `json:"temperature"`
	Stop                json.RawMessage `json:"stop"`
	Echo                bool            `json:"echo"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// text returns a message's text: the content itself, or its text parts one after the other.
func (m message) text() (string, error) {
	var whole string
	if len(m.Content) == 0 || json.Unmarshal(m.Content, &whole) == nil {
		return whole, nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(m.Content, &parts); err != nil {
		return "", fmt.Errorf("content of a message with role %q is neither a string nor a list of parts", m.Role)
	}
	var texts []string
	for _, part := range parts {
		if part.Type == "text" {
			texts = append(texts, part.Text)
		}
	}
	return strings.Join(texts, " "), nil
}

// stops returns the stop strings: none, one or several.
func (r *request) stops() ([]string, error) {
	var one string
	var more []string
	switch {
	case len(r.Stop) == 0 || string(r.Stop) == "null":
		return nil, nil
	case json.Unmarshal(r.Stop, &one) == nil:
		return []string{one}, nil
	case json.Unmarshal(r.Stop, &more) == nil:
		return more, nil
	}
	return nil, fmt.Errorf("stop is %s: it must be a string or a list of strings", r.Stop)
}

// readRequest decodes a request's JSON, or answers with vLLM's refusal and returns nil. It returns nil, too, where
// the client left in the middle.
func readRequest[T any](w http.ResponseWriter, r *http.Request) *T {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		writeError(
			w, http.StatusUnsupportedMediaType, "UnsupportedMediaTypeError", "",
			"Unsupported Media Type: Only 'application/json' is allowed",
		)
		return nil
	}
	into := new(T)
	// To the end: the server notices that a client leaves only after its request was read whole.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		writeError(
			w, http.StatusBadRequest, "BadRequestError", "", "The request is not JSON of the expected kind: "+err.Error(),
		)
		return nil
	}
	return into
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// completion is the answer of both calls, whole or one chunk of a stream: a choice holds text, message or delta.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

type choice struct {
	Index        int     `json:"index"`
	Text         *string `json:"text,omitempty"`
	Message      *said   `json:"message,omitempty"`
	Delta        *said   `json:"delta,omitempty"`
	FinishReason *string `json:"finish_reason"`
}

type said struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
}
