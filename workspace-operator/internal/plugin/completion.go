// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// message is one message of a conversation.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// asker sends conversations to a gateway.
type asker struct {
	base  string // http://host:port
	model string
	key   string
	// limit is the maximum of tokens of an answer; 0 is the engine's default.
	limit int
	// temperature is the sampling temperature; nil is the engine's default.
	temperature *float64
	// completion continues the last message's text, for models without a chat template.
	completion bool
	client     *http.Client
}

// chunk is an event of the stream of a chat or a text completion.
type chunk struct {
	Choices []struct {
		Delta        struct{ Content string } `json:"delta"`
		Text         string                   `json:"text"`
		FinishReason string                   `json:"finish_reason"`
	} `json:"choices"`
	Error *apiError `json:"error"`
}

// apiError is an error in the form of OpenAI's API.
type apiError struct {
	Message string `json:"message"`
	Code    any    `json:"code"` // a string from the gateway, a number from vLLM
}

// Limits of an event and of an error body, in bytes.
const (
	maxEvent   = 1 << 20
	maxRefusal = 64 << 10
)

// errBroken reports a connection that ended before the answer did.
var errBroken = errors.New("the answer is incomplete: the pod was stopped, or the connection was lost")

// ask writes the answer to out while it arrives. It returns the whole answer and the finish reason.
func (a asker) ask(ctx context.Context, conversation []message, out io.Writer) (answer, finish string, err error) {
	body := map[string]any{"model": a.model, "stream": true}
	path := "/v1/chat/completions"
	if a.completion {
		path = "/v1/completions"
		body["prompt"] = conversation[len(conversation)-1].Content
	} else {
		body["messages"] = conversation
	}
	if a.limit > 0 {
		body["max_tokens"] = a.limit
	}
	if a.temperature != nil {
		body["temperature"] = *a.temperature
	}
	text, err := json.Marshal(body)
	if err != nil {
		return "", "", fmt.Errorf("creating the request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+path, bytes.NewReader(text))
	if err != nil {
		return "", "", fmt.Errorf("creating the request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "text/event-stream")
	if a.key != "" {
		request.Header.Set("Authorization", "Bearer "+a.key)
	}
	response, err := a.client.Do(request)
	switch {
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case err != nil:
		return "", "", fmt.Errorf("sending the request: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", "", refusal(response)
	}
	answer, finish, err = stream(response.Body, out)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer, finish, err
}

// stream reads server-sent events until [DONE].
func stream(in io.Reader, out io.Writer) (answer, finish string, err error) {
	var whole strings.Builder
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data:")
		if !found {
			continue // skip comments that keep the connection alive, and other fields
		}
		data = strings.TrimSpace(data)
		if data == "[DONE]" {
			return whole.String(), finish, nil
		}
		var c chunk
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			return whole.String(), finish, fmt.Errorf("the answer is not a stream of completions: %w", err)
		}
		if c.Error != nil {
			return whole.String(), finish, fmt.Errorf("the model returned an error: %s", c.Error.Message)
		}
		for _, choice := range c.Choices {
			text := choice.Delta.Content + choice.Text
			whole.WriteString(text)
			if _, err := io.WriteString(out, text); err != nil {
				return whole.String(), finish, fmt.Errorf("writing the answer: %w", err)
			}
			if choice.FinishReason != "" {
				finish = choice.FinishReason
			}
		}
	}
	return whole.String(), finish, errBroken
}

// refusal converts an error response of the gateway or the engine into an error with a remedy.
func refusal(response *http.Response) error {
	var body struct {
		Error apiError `json:"error"`
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	if err != nil || json.Unmarshal(text, &body) != nil || body.Error.Message == "" {
		body.Error.Message = strings.TrimSpace(string(text))
	}
	said := strings.TrimSpace(fmt.Sprintf("%d %s", response.StatusCode, body.Error.Message))
	switch response.StatusCode {
	case http.StatusUnauthorized:
		return fmt.Errorf("the Workspace requires an API key (%s): set KAITO_API_KEY or --api-key-file", said)
	case http.StatusTooManyRequests:
		return fmt.Errorf("the model is busy (%s): try again in %s s", said, orDash(response.Header.Get("Retry-After")))
	case http.StatusNotFound:
		return fmt.Errorf("the model was not found (%s): set --model to a model or adapter that the Workspace serves", said)
	case http.StatusBadRequest:
		if strings.Contains(body.Error.Message, "chat template") {
			return fmt.Errorf("the model has no chat template (%s): use --completion", said)
		}
	case http.StatusServiceUnavailable, http.StatusBadGateway:
		return fmt.Errorf("the engine does not answer (%s): see %s status and logs", said, kubectl)
	}
	return fmt.Errorf("the model refused the request: %s", said)
}
