// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestChatIsTranslatedIntoTheEngineCall(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		api  PromptAPI
		path string
		want string
	}{
		"a prompt becomes one user message": {
			body: `{"prompt":"Hva er Kaito?"}`,
			want: `{"model":"m","messages":[{"role":"user","content":"Hva er Kaito?"}]}`,
		},
		"a base model gets the bare prompt": {
			body: `{"prompt":"Hva er Kaito?"}`, api: PromptAPICompletions, path: "/v1/completions",
			want: `{"model":"m","prompt":"Hva er Kaito?"}`,
		},
		"forwards messages unchanged, with parts and unknown fields": {
			body: `{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"hi"}],"name":"a"}]}`,
			want: `{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"hi"}],"name":"a"}]}`,
		},
		"messages go to the chat call even for a base model": {
			body: `{"messages":[{"role":"user","content":"hi"}]}`, api: PromptAPICompletions,
			want: `{"model":"m","messages":[{"role":"user","content":"hi"}]}`,
		},
		"an adapter is chosen by its name": {
			body: `{"prompt":"q","model":"dolly-adapter"}`,
			want: `{"model":"dolly-adapter","messages":[{"role":"user","content":"q"}]}`,
		},
		"Hugging Face's arguments become vLLM's": {
			body: `{"prompt":"q","generate_kwargs":{"max_length":200,"min_length":2,"temperature":0.7,"top_k":10,"top_p":0.9,"do_sample":true,
				"repetition_penalty":1.1,"seed":-4,"stop_strings":"END","eos_token_id":[2,32000],"skip_special_tokens":false}}`,
			want: `{"model":"m","messages":[{"role":"user","content":"q"}],"max_tokens":200,"min_tokens":2,"temperature":0.7,"top_k":10,"top_p":0.9,
				"repetition_penalty":1.1,"seed":-4,"stop":["END"],"stop_token_ids":[2,32000],"skip_special_tokens":false}`,
		},
		"without sampling the temperature is zero and nothing shapes it": {
			body: `{"prompt":"q","generate_kwargs":{"do_sample":false,"temperature":0.7,"top_k":10,"top_p":0.9,"min_p":0.1,"max_new_tokens":5}}`,
			want: `{"model":"m","messages":[{"role":"user","content":"q"}],"temperature":0,"max_tokens":5}`,
		},
		"what the engine does anyway is taken and dropped": {
			body: `{"prompt":"q","generate_kwargs":{"num_beams":1,"early_stopping":false,"num_return_sequences":1,"typical_p":1.0,"pad_token_id":0,"no_repeat_ngram_size":0}}`,
			want: `{"model":"m","messages":[{"role":"user","content":"q"}]}`,
		},
		"what KAITO's earlier chat took and what changes nothing": {
			body: `{"prompt":"q","clean_up_tokenization_spaces":true,"prefix":"","handle_long_generation":null,
				"generate_kwargs":{"num_beam_groups":1,"diversity_penalty":0.0,"use_cache":true,"clean_up_tokenization_spaces":false,"guidance_scale":1}}`,
			want: `{"model":"m","messages":[{"role":"user","content":"q"}]}`,
		},
		"null is as if it were not there": {
			body: `{"prompt":"q","messages":null,"generate_kwargs":{"temperature":null}}`,
			want: `{"model":"m","messages":[{"role":"user","content":"q"}]}`,
		},
		"a float that is an integer is one": {
			body: `{"prompt":"q","generate_kwargs":{"max_length":2e2}}`,
			want: `{"model":"m","messages":[{"role":"user","content":"q"}],"max_tokens":200}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.api == "" {
				tc.api = PromptAPIChat
			}
			if tc.path == "" {
				tc.path = "/v1/chat/completions"
			}
			got, err := translateChat([]byte(tc.body), "m", tc.api)
			require.NoError(t, err)
			assert.Equal(t, tc.path, got.path)
			assert.JSONEq(t, tc.want, string(got.body))
		})
	}
}

func TestChatRefusesByName(t *testing.T) {
	for name, tc := range map[string]struct {
		body, code, param, says string
	}{
		"no JSON":                         {`prompt=hi`, "invalid_json", "", "JSON object"},
		"more than one JSON value":        {`{"prompt":"a"}{"prompt":"b"}`, "invalid_json", "", "JSON object"},
		"a list":                          {`["a"]`, "invalid_json", "", "JSON object"},
		"null":                            {`null`, "invalid_json", "", "JSON object"},
		"an unknown key":                  {`{"prompt":"a","promt":"b"}`, "unknown_parameter", "promt", `"promt" is not a key of /chat`},
		"a key in other letters":          {`{"Prompt":"a"}`, "unknown_parameter", "Prompt", "Allowed are"},
		"a prefix":                        {`{"prompt":"a","prefix":"b"}`, "invalid_value", "prefix", "before the prompt"},
		"groups of beams":                 {`{"prompt":"a","generate_kwargs":{"num_beam_groups":2}}`, "invalid_value", "generate_kwargs.num_beam_groups", "no beam search"},
		"a stream":                        {`{"prompt":"a","stream":true}`, "unknown_parameter", "stream", "/v1/chat/completions"},
		"nothing to answer":               {`{}`, "invalid_prompt", "prompt", "either prompt or messages"},
		"both":                            {`{"prompt":"a","messages":[{"role":"user"}]}`, "invalid_prompt", "prompt", "either prompt or messages"},
		"an empty prompt":                 {`{"prompt":""}`, "invalid_value", "prompt", "empty"},
		"a prompt that is a list":         {`{"prompt":["a"]}`, "invalid_type", "prompt", "must be a string"},
		"no message":                      {`{"messages":[]}`, "invalid_type", "messages", "at least one"},
		"a message without a role":        {`{"messages":[{"role":"user"},{"content":"a"}]}`, "invalid_type", "messages[1].role", "must be a string"},
		"an unknown argument":             {`{"prompt":"a","generate_kwargs":{"max_lengths":5}}`, "unknown_parameter", "generate_kwargs.max_lengths", "max_length"},
		"arguments that are a list":       {`{"prompt":"a","generate_kwargs":[]}`, "invalid_type", "generate_kwargs", "an object"},
		"a length of nothing":             {`{"prompt":"a","generate_kwargs":{"max_length":0}}`, "invalid_value", "generate_kwargs.max_length", "an integer from 1"},
		"half a token":                    {`{"prompt":"a","generate_kwargs":{"max_length":1.5}}`, "invalid_value", "generate_kwargs.max_length", "1.5"},
		"a temperature below zero":        {`{"prompt":"a","generate_kwargs":{"temperature":-1}}`, "invalid_value", "generate_kwargs.temperature", "from 0"},
		"a top_p of zero":                 {`{"prompt":"a","generate_kwargs":{"top_p":0}}`, "invalid_value", "generate_kwargs.top_p", "above 0"},
		"a word for a flag":               {`{"prompt":"a","generate_kwargs":{"do_sample":"no"}}`, "invalid_value", "generate_kwargs.do_sample", "true or false"},
		"beams":                           {`{"prompt":"a","generate_kwargs":{"num_beams":4}}`, "invalid_value", "generate_kwargs.num_beams", "no beam search"},
		"two names of one thing":          {`{"prompt":"a","generate_kwargs":{"max_length":5,"max_new_tokens":6}}`, "invalid_value", "generate_kwargs.max_new_tokens", "set only one of them"},
		"the full text of messages":       {`{"messages":[{"role":"user"}],"return_full_text":true}`, "invalid_value", "return_full_text", "only with prompt"},
		"a model that is a number":        {`{"prompt":"a","model":3}`, "invalid_type", "model", "a string"},
		"a full text that is not a yes":   {`{"prompt":"a","return_full_text":"x"}`, "invalid_type", "return_full_text", "true or false"},
		"a number beyond every precision": {`{"prompt":"a","generate_kwargs":{"max_length":1e300}}`, "invalid_value", "generate_kwargs.max_length", "an integer"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := translateChat([]byte(tc.body), "m", PromptAPIChat)
			var refused *apiError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, http.StatusBadRequest, refused.status)
			assert.Equal(t, tc.code, refused.code)
			assert.Equal(t, tc.param, refused.param)
			assert.Contains(t, refused.message, tc.says)
		})
	}
}

func TestTheQuickStartsCallIsAnswered(t *testing.T) {
	f := start(t, answer(oneChoice))
	res, body := f.do(
		t,
		http.MethodPost,
		"/chat",
		`{"prompt":"YOUR QUESTION HERE"}`,
		"Accept",
		"application/json",
		"Content-Type",
		"application/json",
	)
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
	assert.JSONEq(t, `{"Result":"Hei!"}`, body)
	require.Len(t, f.requests(), 1)
	assert.Equal(t, "/v1/chat/completions", f.requests()[0].path)
	assert.JSONEq(
		t,
		`{"model":"workspace-phi-3","messages":[{"role":"user","content":"YOUR QUESTION HERE"}]}`,
		f.requests()[0].body,
	)
}

func TestChatShowsTheTextOfBothEngineCalls(t *testing.T) {
	f := start(
		t,
		answer(`{"choices":[{"index":0,"text":" blue."}]}`),
		func(c *Config) { c.PromptAPI = PromptAPICompletions },
	)
	_, body := f.do(t, http.MethodPost, "/chat", `{"prompt":"The sky is","return_full_text":true}`)
	assert.JSONEq(t, `{"Result":"The sky is blue."}`, body)
}

func TestChatOfAnAnswerWithoutContentIsEmpty(t *testing.T) {
	f := start(t, answer(`{"choices":[{"message":{"role":"assistant","content":null,"reasoning_content":"hm"}}]}`))
	_, body := f.do(t, http.MethodPost, "/chat", `{"prompt":"q"}`)
	assert.JSONEq(t, `{"Result":""}`, body)
}

func TestChatPassesTheEnginesRefusalOnInOpenAIsShape(t *testing.T) {
	for name, tc := range map[string]struct {
		status     int
		body       string
		wantStatus int
		code, kind string
		param      any
		says       string
	}{
		"vLLM's shape": {
			404, `{"error":{"message":"The model x does not exist.","type":"NotFoundError","param":"model","code":404}}`,
			404, "not_found", typeInvalidRequest, "model", "The model x does not exist.",
		},
		"too long a prompt":      {400, `{"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}`, 400, "bad_request", typeInvalidRequest, nil, "too long"},
		"an error without shape": {500, `Internal Server Error`, 500, "internal_server_error", typeServer, nil, "status 500"},
		"a redirect":             {307, ``, 502, "bad_gateway", typeServer, nil, "status 307"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			res, body := f.do(t, http.MethodPost, "/chat", `{"prompt":"q"}`)
			got := requireError(t, res, body, tc.wantStatus, tc.code)
			assert.Equal(t, tc.kind, got.Type)
			assert.Contains(t, got.Message, tc.says)
			if tc.param == nil {
				assert.Nil(t, got.Param)
			} else if assert.NotNil(t, got.Param) {
				assert.Equal(t, tc.param, *got.Param)
			}
		})
	}
}

func TestChatOfAnEngineThatAnswersNonsenseIsABadGateway(t *testing.T) {
	for _, nonsense := range []string{`{"choices":[]}`, `<html>`, ``} {
		f := start(t, answer(nonsense))
		res, body := f.do(t, http.MethodPost, "/chat", `{"prompt":"q"}`)
		requireError(t, res, body, http.StatusBadGateway, "engine_error")
	}
}

func TestChatTakesJSONOnly(t *testing.T) {
	f := start(t, answer(oneChoice))
	res, body := f.do(t, http.MethodPost, "/chat", `{"prompt":"q"}`, "Content-Type", "application/x-www-form-urlencoded")
	requireError(t, res, body, http.StatusUnsupportedMediaType, "unsupported_media_type")
	res, _ = f.do(t, http.MethodPost, "/chat", `{"prompt":"q"}`, "Content-Type", "application/json; charset=utf-8")
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Len(t, f.requests(), 1)
}

// FuzzChat looks for a body that panics, is refused without a name, or becomes an engine call that holds more than the
// parameters that the gateway means to let through.
func FuzzChat(f *testing.F) {
	for _, seed := range []string{
		`{"prompt":"q"}`, `{"messages":[{"role":"user","content":"a"}],"generate_kwargs":{"max_length":5}}`, `{"prompt":"q","model":"l","return_full_text":true}`,
		`{"prompt":"q","generate_kwargs":{"do_sample":false,"stop":["a"],"eos_token_id":1}}`, `null`, `{"prompt":null}`, `{"messages":[null]}`, "{\"prompt\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	allowed := map[string]bool{"model": true, "messages": true, "prompt": true}
	for _, known := range kwargs {
		allowed[known.param] = true
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, api := range []PromptAPI{PromptAPIChat, PromptAPICompletions} {
			got, err := translateChat(body, "m", api)
			if err != nil {
				var refused *apiError
				if !errors.As(err, &refused) || refused.code == "" || refused.message == "" ||
					refused.status != http.StatusBadRequest {
					t.Fatalf("refused without a name: %v", err)
				}
				continue
			}
			var call map[string]json.RawMessage
			if err := json.Unmarshal(got.body, &call); err != nil {
				t.Fatalf("the engine call is not a JSON object: %v", err)
			}
			if call["model"] == nil || (call["prompt"] == nil) == (call["messages"] == nil) {
				t.Fatalf("the engine call asks for nothing: %s", got.body)
			}
			for key := range call {
				if !allowed[key] {
					t.Fatalf("the engine call holds %q: %s", key, got.body)
				}
			}
		}
	})
}
