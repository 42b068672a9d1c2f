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

	"kaito.sh/shared/excerpt"
)

// chatRequest is a validated and translated POST /chat.
type chatRequest struct {
	// path and body are the engine call.
	path string
	body []byte
	// before is a prefix of the answer: the prompt, if return_full_text is set.
	before string
}

// chatKeys are the keys of POST /chat. The list is read only.
var chatKeys = []string{"generate_kwargs", "messages", "model", "prompt", "return_full_text"}

const (
	// maxChatBytes limits the body of POST /chat: a million characters, more than the longest context. The gateway reads
	// it completely. Images and audio go to /v1/chat/completions, whose bodies are forwarded while they arrive.
	maxChatBytes = 1 << 20
	// maxTranslations limits the number of /chat bodies that are translated at once. A translation takes some milliseconds
	// of CPU time and about eight times the body's size of memory.
	maxTranslations = 4
)

// checkChatType refuses a Content-Type other than JSON.
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
		message: fmt.Sprintf("Content-Type is %s: /chat accepts application/json.", quote(given)),
	}
}

// readChat reads and translates the body of an admitted request. Afterwards ex is charged only for the translation.
// The error is an *apiError, a read error, or an error of the intake.
func (g *Gateway) readChat(r *http.Request, ex *exchange) (*chatRequest, error) {
	body := ex.whole
	if _, more := r.Body.(*uploadBody); more {
		var err error
		if body, err = g.readRest(r, ex); err != nil {
			return nil, err
		}
	}
	// Only after the read: a slow client would block the others.
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

// readRest reads the rest of a body whose beginning is held.
func (g *Gateway) readRest(r *http.Request, ex *exchange) ([]byte, error) {
	size := g.bodyLimit(ex.route)
	if r.ContentLength >= 0 {
		size = r.ContentLength
	}
	if err := ex.body.resize(holdBytes + size); err != nil {
		return nil, err
	}
	body := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // large enough, so that it does not grow
	_, err := body.ReadFrom(r.Body)
	return body.Bytes(), err
}

// translateChat translates the body of POST /chat into a call of the engine. The error is always an *apiError that
// names the key, its value and the allowed values.
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
				"stream is not a key of /chat, which returns complete answers. For a stream, call /v1/chat/completions.",
			)
		}
		if neutral, known := neutralKeys[key]; known {
			if _, ok := neutral.parse(keys[key]); !ok && !isNull(keys[key]) {
				return nil, invalidRequest(
					"invalid_value", key, "%s is %s: it must be %s.", key, quote(string(keys[key])), neutral.allowed,
				)
			}
			continue
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
	for key, into := range map[string]any{
		"prompt": &prompt, "model": &model, "return_full_text": &fullText, "generate_kwargs": &kwargs,
	} {
		if raw, ok := keys[key]; ok && json.Unmarshal(raw, into) != nil {
			return nil, invalidRequest(
				"invalid_type", key, "%s is %s: it must be %s.", key, quote(string(raw)),
				map[string]string{
					"prompt": "a string", "model": "a string", "return_full_text": "true or false", "generate_kwargs": "an object",
				}[key],
			)
		}
	}
	_, hasPrompt := keys["prompt"]
	messages, hasMessages := keys["messages"]
	if hasPrompt == hasMessages {
		return nil, invalidRequest("invalid_prompt", "prompt", "Send either prompt or messages.")
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
			return nil, invalidRequest("invalid_value", "return_full_text", "return_full_text is allowed only with prompt.")
		}
		if err := checkMessages(messages); err != nil {
			return nil, err
		}
		params["messages"] = messages
	case prompt == "":
		return nil, invalidRequest("invalid_value", "prompt", "prompt is empty: it must have the question.")
	case api == PromptAPICompletions:
		req.path = "/v1/completions"
		params["prompt"] = prompt
	default:
		params["messages"] = []map[string]string{{"role": "user", "content": prompt}}
	}
	if fullText {
		req.before = prompt
	}
	if req.body, err = marshalPlain(params); err != nil { // not expected: raw values were parsed above
		return nil, invalidRequest("invalid_json", "", "The body cannot be forwarded.")
	}
	return req, nil
}

// marshalPlain is json.Marshal without HTML escapes, which turn one byte into six.
func marshalPlain(v any) ([]byte, error) {
	out := &bytes.Buffer{}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.Clone(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}

// checkMessages checks the structure of messages. The engine checks roles and content types.
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

// maxAnswerBytes limits an engine's answer to /chat. A context of a million tokens has about 4 MB of text.
const maxAnswerBytes = 16 << 20

// engineAnswer has the fields of vLLM's completion and chat completion that /chat uses.
type engineAnswer struct {
	Choices []struct {
		Text    string `json:"text"`
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
	} `json:"choices"`
}

// answerChat calls the engine and writes {"Result": "…"}, or returns an error response.
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
	defer func() { _ = res.Body.Close() }() // read only
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	if err == nil && len(body) > maxAnswerBytes {
		err = fmt.Errorf("the engine's answer is larger than %d bytes", maxAnswerBytes)
	}
	if err != nil {
		return g.engineFailure(ctx, err)
	}
	if res.StatusCode != http.StatusOK {
		refusal := engineRefusal(res.StatusCode, body)
		g.nameModels(ctx, refusal)
		return refusal
	}
	var answer engineAnswer
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Choices) == 0 {
		return g.engineFailure(ctx, errors.New("the engine's answer has no choice"))
	}
	choice := answer.Choices[0]
	writeJSON(w, http.StatusOK, map[string]string{"Result": chat.before + choice.Text + choice.Message.Content})
	return nil
}

// maxDetail bounds what is passed on of an error that has another form.
const maxDetail = 1000

// engineRefusal converts the engine's error into OpenAI's form. vLLM's errors have a number as code.
func engineRefusal(status int, body []byte) *apiError {
	var vllm struct {
		Error struct {
			Message string `json:"message"`
			Type    string `json:"type"`
			Param   string `json:"param"`
		} `json:"error"`
		// Detail is what FastAPI answers: a text, or a list with a msg for each wrong field.
		Detail json.RawMessage `json:"detail"`
	}
	refusal := &apiError{status: status, kind: typeInvalidRequest}
	if status >= 500 {
		refusal.kind = typeServer
	} else if status < 400 { // a redirect, which clients of /chat cannot follow
		refusal.status, refusal.kind = http.StatusBadGateway, typeServer
	}
	refusal.code = strings.ReplaceAll(strings.ToLower(http.StatusText(refusal.status)), " ", "_")
	if err := json.Unmarshal(body, &vllm); err == nil && vllm.Error.Message != "" {
		refusal.message, refusal.param = vllm.Error.Message, vllm.Error.Param
		return refusal
	}
	if len(vllm.Detail) > 0 {
		refusal.message = "The inference engine refuses the request: " + excerpt.Head(strings.Trim(string(vllm.Detail), `"`), maxDetail)
		return refusal
	}
	refusal.message = fmt.Sprintf("The inference engine answered with status %d and no message.", status)
	return refusal
}
