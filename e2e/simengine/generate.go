// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// job is one inference request, checked.
type job struct {
	chat   bool
	id     string
	model  string
	prompt int // tokens
	tokens []string
	finish string
	choice int
	req    *request
	// adapter's name, empty for the model itself
	adapter string
}

func (e *Engine) chatCompletions(w http.ResponseWriter, r *http.Request) {
	req := readRequest[request](w, r)
	if req == nil {
		return
	}
	if len(req.Messages) == 0 {
		writeError(w, http.StatusBadRequest, "BadRequestError", "messages", "messages must hold at least one message.")
		return
	}
	var question string
	prompt := 0
	for i, m := range req.Messages {
		text, err := m.text()
		if err != nil {
			writeError(w, http.StatusBadRequest, "BadRequestError", fmt.Sprintf("messages.%d", i), err.Error())
			return
		}
		prompt += len(tokenize(text))
		if m.Role == "user" {
			question = text
		}
	}
	e.infer(w, r, &job{chat: true, prompt: prompt, req: req}, question)
}

func (e *Engine) completions(w http.ResponseWriter, r *http.Request) {
	req := readRequest[request](w, r)
	if req == nil {
		return
	}
	var prompt string
	if err := json.Unmarshal(req.Prompt, &prompt); err != nil {
		writeError(
			w, http.StatusBadRequest, "BadRequestError", "prompt",
			"prompt must be a string: the simulation takes neither lists nor token numbers.",
		)
		return
	}
	e.infer(w, r, &job{prompt: len(tokenize(prompt)), req: req}, prompt)
}

// infer checks what both calls share, waits for a seat and answers.
func (e *Engine) infer(w http.ResponseWriter, r *http.Request, j *job, question string) {
	if e.takeFailure() {
		writeError(
			w, http.StatusInternalServerError, "InternalServerError", "",
			"EngineCore encountered an issue. See stack trace (above) for the root cause.",
		)
		return
	}
	label, ok := e.who(j)
	if !ok {
		text := fmt.Sprintf("The model `%s` does not exist.", j.model)
		if e.opts.Release != "0.10.2" { // vllm/entrypoints/serve/engine/serving.py of 0.32.0
			text += " Valid aliases: " + strings.Join(e.opts.ServedNames, ", ") + "."
		}
		writeError(w, http.StatusNotFound, "NotFoundError", "model", text)
		return
	}
	if param, why := e.prepare(j, label, question); why != "" {
		writeError(w, http.StatusBadRequest, "BadRequestError", param, why)
		return
	}
	j.id = e.requestID(j, r)
	began := e.clock.Now()
	leave, err := e.seat(r.Context(), j)
	if err != nil {
		return // the client is gone
	}
	defer leave()
	finish := "abort"
	defer func() { e.meters.finished(finish, e.clock.Since(began)) }()
	if j.req.Stream {
		if e.stream(w, r, j, began) {
			finish = j.finish
		}
		return
	}
	for i := range j.tokens {
		if !e.token(r.Context(), i, began, j) {
			return
		}
	}
	finish = j.finish
	text := strings.Join(j.tokens, "")
	answer := e.completion(j, "text_completion", "chat.completion")
	for i := range j.choice {
		c := choice{Index: i, FinishReason: &j.finish}
		if j.chat {
			c.Message = &said{Role: "assistant", Content: text}
		} else {
			c.Text = &text
		}
		answer.Choices = append(answer.Choices, c)
	}
	answer.Usage = j.usage()
	writeJSON(w, http.StatusOK, answer)
}

// who finds whom the request asks for and returns how they call themselves.
func (e *Engine) who(j *job) (label string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	own := e.opts.ServedNames[0]
	j.model = own
	if j.req.Model != nil && *j.req.Model != "" {
		j.model = *j.req.Model
	}
	label = own
	if e.weights > 0 { // a request reached /update_weights
		label = fmt.Sprintf("%s with weights %d", own, e.weights)
	}
	for _, name := range e.opts.ServedNames {
		if name == j.model {
			return label, true
		}
	}
	for _, a := range e.adapters {
		if a.Name == j.model {
			j.adapter = a.Name
			return label + " + adapter " + a.Digest, true
		}
	}
	return "", false
}

// prepare decides what will be said. Where the request cannot be answered it returns the parameter that is wrong and
// why.
func (e *Engine) prepare(j *job, label, question string) (param, why string) {
	req := j.req
	stops, err := req.stops()
	if err != nil {
		return "stop", err.Error()
	}
	if req.Temperature != nil && *req.Temperature < 0 {
		return "temperature", fmt.Sprintf("temperature must be non-negative, got %g.", *req.Temperature)
	}
	j.choice = 1
	if req.N != nil {
		j.choice = *req.N
	}
	if j.choice < 1 {
		return "n", fmt.Sprintf("n must be at least 1, got %d.", j.choice)
	}
	room := e.opts.MaxModelLen - j.prompt
	most := room
	limits := map[string]*int{"max_tokens": req.MaxTokens, "max_completion_tokens": req.MaxCompletionTokens}
	for name, given := range limits {
		if given == nil {
			continue
		}
		if *given < 1 {
			return name, fmt.Sprintf("%s must be at least 1, got %d.", name, *given)
		}
		most = min(most, *given)
		if *given > room {
			most = -1
		}
	}
	if most < 1 {
		return "max_tokens", fmt.Sprintf(
			"This model's maximum context length is %d tokens. However, your request has %d input tokens and no room is left for the output. Please reduce the length of the input or the output.",
			e.opts.MaxModelLen, j.prompt,
		)
	}
	text := fmt.Sprintf("[%s] You asked: %s", label, question)
	if req.Echo && !j.chat {
		text = question + text
	}
	for _, stop := range stops {
		if at := strings.Index(text, stop); stop != "" && at >= 0 {
			text = text[:at]
		}
	}
	j.tokens, j.finish = tokenize(text), "stop"
	if len(j.tokens) > most {
		j.tokens, j.finish = j.tokens[:most], "length"
	}
	return "", ""
}

// tokenize splits a text into words with the space before them: enough to count, to cut, and to put together again.
func tokenize(text string) []string {
	var tokens []string
	begin := 0
	for i := 1; i < len(text); i++ {
		if text[i] == ' ' && text[i-1] != ' ' {
			tokens = append(tokens, text[begin:i])
			begin = i
		}
	}
	if begin < len(text) {
		tokens = append(tokens, text[begin:])
	}
	return tokens
}

func (j *job) usage() *usage {
	generated := len(j.tokens) * j.choice
	return &usage{PromptTokens: j.prompt, CompletionTokens: generated, TotalTokens: j.prompt + generated}
}

// requestID is vLLM's: the client's X-Request-Id where there is one.
func (e *Engine) requestID(j *job, r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if id == "" {
		e.mu.Lock()
		e.serial++
		id = fmt.Sprintf("%032x", e.serial)
		e.mu.Unlock()
	}
	if j.chat {
		return "chatcmpl-" + id
	}
	return "cmpl-" + id
}

func (e *Engine) completion(j *job, text, chat string) completion {
	object := text
	if j.chat {
		object = chat
	}
	return completion{ID: j.id, Object: object, Created: e.clock.Now().Unix(), Model: j.model, Choices: []choice{}}
}

// seat waits until the request may run, and returns how it gives its seat back.
func (e *Engine) seat(ctx context.Context, j *job) (leave func(), err error) {
	e.meters.queue(j, 1)
	err = e.seats.Acquire(ctx, 1)
	e.meters.queue(j, -1)
	if err != nil {
		return nil, err
	}
	e.meters.run(j, 1)
	return func() {
		e.meters.run(j, -1)
		e.seats.Release(1)
	}, nil
}

// token waits for the i-th token: while generation is held, and for as long as a token takes. False means that the
// client is gone. A fault may break the connection instead.
func (e *Engine) token(ctx context.Context, i int, began time.Time, j *job) bool {
	e.mu.Lock()
	faults, resumed := e.faults, e.resumed
	e.mu.Unlock()
	if faults.CutAfterTokens > 0 && i >= faults.CutAfterTokens {
		panic(http.ErrAbortHandler)
	}
	if resumed != nil {
		select {
		case <-resumed:
		case <-ctx.Done():
			return false
		}
	}
	pause := e.opts.EachToken + faults.ExtraEachToken
	if i == 0 {
		pause = e.opts.FirstToken + faults.ExtraEachToken
	}
	if pause > 0 {
		timer := e.clock.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C():
		case <-ctx.Done():
			return false
		}
	}
	if ctx.Err() != nil {
		return false
	}
	e.meters.token(j, i, e.clock.Since(began), pause)
	return true
}

func (e *Engine) takeFailure() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.faults.FailRequests <= 0 {
		return false
	}
	e.faults.FailRequests--
	return true
}
