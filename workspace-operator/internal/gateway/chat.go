// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// chatRequest is a POST /chat, checked and translated.
type chatRequest struct {
	// path and body are the engine call.
	path string
	body []byte
	// before is put in front of the answer: the prompt, where the full text was asked for.
	before string
}

// chatKeys are the keys of POST /chat. The list is read only.
var chatKeys = []string{"generate_kwargs", "messages", "model", "prompt", "return_full_text"}

const (
	// maxChatBytes bounds the body of POST /chat: a million characters, more than the longest context takes. Such a body
	// is text that is read whole; what brings images or sound goes to /v1/chat/completions, whose bodies are passed on
	// while they arrive.
	maxChatBytes = 1 << 20
	// maxTranslations bounds how many bodies of /chat are translated at once. Translating takes some milliseconds of the
	// processor and about eight times the body's size; what is held for longer is charged to the request.
	maxTranslations = 4
)

// checkChatType refuses a body that says it is no JSON.
func checkChatType(r *http.Request) *apiError {
	given := r.Header.Get("Content-Type")
	if given == "" {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(given); err == nil && kind == "application/json" {
		return nil
	}
	return &apiError{
		status: http.StatusUnsupportedMediaType, kind: typeInvalidRequest, code: "unsupported_media_type",
		message: fmt.Sprintf("Content-Type is %s: /chat takes application/json.", quote(given)),
	}
}

// readChat reads and translates the body of an admitted request. From then on ex is charged for the translation alone.
// The error is an *apiError, one of reading, or one of the intake.
func (g *Gateway) readChat(r *http.Request, ex *exchange) (*chatRequest, error) {
	body := ex.whole
	if _, more := r.Body.(*uploadBody); more {
		var err error
		if body, err = g.readRest(r, ex); err != nil {
			return nil, err
		}
	}
	// Not while it is read: a client that sends slowly would keep the others waiting.
	if err := g.translators.Acquire(r.Context(), 1); err != nil {
		return nil, err
	}
	defer g.translators.Release(1)
	chat, err := translateChat(body, g.cfg.Model, g.cfg.PromptAPI)
	if err != nil {
		return nil, err
	}
	r.Body, r.GetBody, ex.whole = http.NoBody, nil, nil // release the original body
	return chat, ex.body.resize(int64(len(chat.body) + len(chat.before)))
}

// readRest reads a body of which only the beginning is held.
func (g *Gateway) readRest(r *http.Request, ex *exchange) ([]byte, error) {
	size := g.bodyLimit(ex.route)
	if r.ContentLength >= 0 {
		size = r.ContentLength
	}
	if err := ex.body.resize(holdBytes + size); err != nil {
		return nil, err
	}
	body := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // so that it never grows
	_, err := body.ReadFrom(r.Body)
	return body.Bytes(), err
}

// translateChat turns the body of POST /chat into the engine call that answers it. The error is always an *apiError
// that names the key, what it was and what is allowed.
func translateChat(body []byte, model string, api PromptAPI) (*chatRequest, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(body, &keys); err != nil || keys == nil {
		return nil, invalidRequest(
			"invalid_json",
			"",
			`The body is not a JSON object. Send {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}.`,
		)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if key == "stream" {
			return nil, invalidRequest(
				"unknown_parameter", "stream",
				"stream is not a key of /chat, which answers in one piece. For a stream, call /v1/chat/completions.",
			)
		}
		if !slices.Contains(chatKeys, key) {
			return nil, invalidRequest(
				"unknown_parameter", key, "%s is not a key of /chat. Allowed are %s.", quote(key), strings.Join(chatKeys, ", "),
			)
		}
		if isNull(keys[key]) {
			delete(keys, key)
		}
	}
	var prompt string
	var fullText bool
	var kwargs map[string]json.RawMessage
	for key, into := range map[string]any{"prompt": &prompt, "model": &model, "return_full_text": &fullText, "generate_kwargs": &kwargs} {
		if raw, ok := keys[key]; ok && json.Unmarshal(raw, into) != nil {
			return nil, invalidRequest(
				"invalid_type", key, "%s is %s: it must be %s.", key, quote(string(raw)),
				map[string]string{"prompt": "a string", "model": "a string", "return_full_text": "true or false", "generate_kwargs": "an object"}[key],
			)
		}
	}
	_, hasPrompt := keys["prompt"]
	messages, hasMessages := keys["messages"]
	if hasPrompt == hasMessages {
		return nil, invalidRequest("invalid_prompt", "prompt", "Give either prompt or messages, and not both.")
	}
	params, err := engineParamsOf(kwargs)
	if err != nil {
		return nil, err
	}
	params["model"] = model
	req := &chatRequest{path: "/v1/chat/completions"}
	switch {
	case hasMessages:
		if fullText {
			return nil, invalidRequest("invalid_value", "return_full_text", "return_full_text goes with prompt only.")
		}
		if err := checkMessages(messages); err != nil {
			return nil, err
		}
		params["messages"] = messages
	case prompt == "":
		return nil, invalidRequest("invalid_value", "prompt", "prompt is empty: it must hold the question.")
	case api == PromptAPICompletions:
		req.path = "/v1/completions"
		params["prompt"] = prompt
	default:
		params["messages"] = []map[string]string{{"role": "user", "content": prompt}}
	}
	if fullText {
		req.before = prompt
	}
	if req.body, err = marshalPlain(params); err != nil { // raw values were parsed above, so they marshal
		return nil, invalidRequest("invalid_json", "", "The body cannot be passed on.")
	}
	return req, nil
}

// marshalPlain is json.Marshal without the escapes for HTML, which make six bytes of one.
func marshalPlain(v any) ([]byte, error) {
	out := &bytes.Buffer{}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.Clone(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}

// checkMessages looks at what the gateway can judge: the shape. Roles and kinds of content are the model's business.
func checkMessages(raw json.RawMessage) error {
	var messages []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &messages); err != nil || len(messages) == 0 {
		return invalidRequest(
			"invalid_type",
			"messages",
			`messages must be a list of at least one object such as {"role": "user", "content": "…"}.`,
		)
	}
	for i, message := range messages {
		var role string
		if err := json.Unmarshal(message["role"], &role); err != nil || role == "" {
			param := fmt.Sprintf("messages[%d].role", i)
			return invalidRequest("invalid_type", param, "%s must be a string such as user, assistant or system.", param)
		}
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// maxAnswerBytes bounds an engine's answer to /chat: a context of a million tokens has some 4 MB of text.
const maxAnswerBytes = 16 << 20

// engineAnswer is the part of vLLM's completion and chat completion that /chat shows.
type engineAnswer struct {
	Choices []struct {
		Text    string `json:"text"`
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
	} `json:"choices"`
}

// answerChat calls the engine and writes {"Result": "…"}, or returns the refusal.
func (g *Gateway) answerChat(w http.ResponseWriter, r *http.Request, chat *chatRequest) *apiError {
	ctx := r.Context()
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, g.engine.String()+chat.path, bytes.NewReader(chat.body))
	if err != nil {
		return g.engineFailure(ctx, err)
	}
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("Accept", "application/json")
	call.Header.Set("X-Request-Id", exchangeOf(ctx).requestID)
	repeatable(call)
	res, err := g.transport.RoundTrip(call)
	if err != nil {
		return g.engineFailure(ctx, err)
	}
	defer func() { _ = res.Body.Close() }() // nothing is written to it, so closing loses nothing
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	if err == nil && len(body) > maxAnswerBytes {
		err = fmt.Errorf("the engine's answer is larger than %d bytes", maxAnswerBytes)
	}
	if err != nil {
		return g.engineFailure(ctx, err)
	}
	if res.StatusCode != http.StatusOK {
		return engineRefusal(res.StatusCode, body)
	}
	var answer engineAnswer
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Choices) == 0 {
		return g.engineFailure(ctx, errors.New("the engine's answer holds no choice"))
	}
	choice := answer.Choices[0]
	writeJSON(w, http.StatusOK, map[string]string{"Result": chat.before + choice.Text + choice.Message.Content})
	return nil
}

// engineRefusal puts the engine's refusal into OpenAI's shape: vLLM's has a number for its code.
func engineRefusal(status int, body []byte) *apiError {
	var vllm struct {
		Error struct {
			Message string `json:"message"`
			Type    string `json:"type"`
			Param   string `json:"param"`
		} `json:"error"`
	}
	refusal := &apiError{status: status, kind: typeInvalidRequest}
	if status >= 500 {
		refusal.kind = typeServer
	} else if status < 400 { // neither an answer nor an error: nothing that a client of /chat can follow
		refusal.status, refusal.kind = http.StatusBadGateway, typeServer
	}
	refusal.code = strings.ReplaceAll(strings.ToLower(http.StatusText(refusal.status)), " ", "_")
	if err := json.Unmarshal(body, &vllm); err == nil && vllm.Error.Message != "" {
		refusal.message, refusal.param = vllm.Error.Message, vllm.Error.Param
		return refusal
	}
	refusal.message = fmt.Sprintf("The inference engine answered with status %d and no message.", status)
	return refusal
}
