package simengine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testingclock "k8s.io/utils/clock/testing"

	"kaito.sh/shared/test/eventually"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// simulated is an engine behind HTTP on a clock that stands still.
type simulated struct {
	*Engine
	server *httptest.Server
	clock  *testingclock.FakeClock
}

func start(t *testing.T, opts Options) *simulated {
	t.Helper()
	s := &simulated{clock: testingclock.NewFakeClock(epoch)}
	opts.Clock = s.clock
	if opts.ServedNames == nil {
		opts.ServedNames = []string{"phi-3", "phi-3-mini-128k-instruct"}
	}
	var err error
	s.Engine, err = New(opts)
	require.NoError(t, err)
	s.server = httptest.NewServer(s.Engine)
	t.Cleanup(func() {
		s.server.Client().CloseIdleConnections()
		s.server.Close()
	})
	return s
}

// call sends JSON, or nothing, and decodes the answer into a value of type T.
func call[T any](t *testing.T, s *simulated, method, path, body string) (int, T) {
	t.Helper()
	var answer T
	status, text := s.text(t, method, path, body)
	require.NoError(t, json.Unmarshal([]byte(text), &answer), text)
	return status, answer
}

func (s *simulated) text(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	res := s.open(t, t.Context(), method, path, body)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(got)
}

func (s *simulated) open(t *testing.T, ctx context.Context, method, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, s.server.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := s.server.Client().Do(req)
	require.NoError(t, err)
	return res
}

// metric returns the value of a series of the engine's page; histograms give their count.
func (s *simulated) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	_, page := s.text(t, http.MethodGet, "/metrics", "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	require.NoError(t, err)
	require.Contains(t, families, name)
	for _, m := range families[name].Metric {
		matches := true
		for i := 0; i < len(labels); i += 2 {
			found := false
			for _, l := range m.Label {
				found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
			}
			matches = matches && found
		}
		switch {
		case !matches:
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount())
		}
	}
	t.Fatalf("no series of %s has the labels %q:\n%s", name, labels, page)
	return 0
}

// metricSum returns the sum of all that a histogram observed.
func (s *simulated) metricSum(t *testing.T, name string) float64 {
	t.Helper()
	_, page := s.text(t, http.MethodGet, "/metrics", "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	require.NoError(t, err)
	require.Contains(t, families, name)
	return families[name].Metric[0].Histogram.GetSampleSum()
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, eventually.Short, eventually.Tick, what)
}

// adapterFolder writes an adapter whose weights are the given text and returns its folder and digest.
func adapterFolder(t *testing.T, weights string) (folder, digest string) {
	t.Helper()
	folder = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, weightsFile), []byte(weights), 0o600))
	sum := sha256.Sum256([]byte(weights))
	return folder, "sha256:" + hex.EncodeToString(sum[:])
}

func TestTheAnswerTellsWhoAnsweredWhat(t *testing.T) {
	folder, digest := adapterFolder(t, "weights of dolly")
	s := start(t, Options{EnableLoRA: true, Adapters: []Adapter{{Name: "dolly", Path: folder}, {Name: "other", Digest: "sha256:00"}}})
	for name, tc := range map[string]struct{ path, body, model, want string }{
		"the model":                         {"/v1/chat/completions", `{"model":"phi-3","messages":[{"role":"user","content":"why?"}]}`, "phi-3", "[phi-3] You asked: why?"},
		"the model by another of its names": {"/v1/chat/completions", `{"model":"phi-3-mini-128k-instruct","messages":[{"role":"user","content":"why?"}]}`, "phi-3-mini-128k-instruct", "[phi-3] You asked: why?"},
		"no name":                           {"/v1/chat/completions", `{"messages":[{"role":"user","content":"why?"}]}`, "phi-3", "[phi-3] You asked: why?"},
		"an adapter":                        {"/v1/chat/completions", `{"model":"dolly","messages":[{"role":"system","content":"x"},{"role":"user","content":"why?"}]}`, "dolly", "[phi-3 + adapter " + digest + "] You asked: why?"},
		"another adapter":                   {"/v1/completions", `{"model":"other","prompt":"why?"}`, "other", "[phi-3 + adapter sha256:00] You asked: why?"},
		"the last question, of its parts":   {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}]}`, "phi-3", "[phi-3] You asked: c d"},
		"a prompt, echoed":                  {"/v1/completions", `{"prompt":"why?","echo":true}`, "phi-3", "why?[phi-3] You asked: why?"},
	} {
		t.Run(name, func(t *testing.T) {
			status, got := call[completion](t, s, http.MethodPost, tc.path, tc.body)
			require.Equal(t, http.StatusOK, status)
			require.Len(t, got.Choices, 1)
			c := got.Choices[0]
			if c.Message != nil {
				assert.Equal(t, "assistant", c.Message.Role)
				assert.Equal(t, tc.want, c.Message.Content)
				assert.Equal(t, "chat.completion", got.Object)
			} else {
				assert.Equal(t, tc.want, *c.Text)
				assert.Equal(t, "text_completion", got.Object)
			}
			assert.Equal(t, tc.model, got.Model)
			assert.Equal(t, "stop", *c.FinishReason)
			assert.Equal(t, epoch.Unix(), got.Created)
		})
	}
}

func TestUsageAndLengthCountWords(t *testing.T) {
	s := start(t, Options{MaxModelLen: 20})
	body := `{"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"one two three"}],"max_tokens":4,"n":2}`
	_, got := call[completion](t, s, http.MethodPost, "/v1/chat/completions", body)
	require.Len(t, got.Choices, 2)
	assert.Equal(t, "[phi-3] You asked: one", got.Choices[1].Message.Content)
	assert.Equal(t, "length", *got.Choices[1].FinishReason)
	assert.Equal(t, &usage{PromptTokens: 5, CompletionTokens: 8, TotalTokens: 13}, got.Usage)

	_, got = call[completion](t, s, http.MethodPost, "/v1/completions", `{"prompt":"one two three","stop":[" two"]}`)
	assert.Equal(t, "[phi-3] You asked: one", *got.Choices[0].Text)
	assert.Equal(t, "stop", *got.Choices[0].FinishReason)
}

func TestTextIsTheSumOfItsTokens(t *testing.T) {
	for _, text := range []string{"", " ", "a", "a b", "  a  b ", "å ø"} {
		assert.Equal(t, text, strings.Join(tokenize(text), ""))
	}
	assert.Len(t, tokenize("a b c"), 3)
	assert.Empty(t, tokenize(""))
}

func TestRefusalsHaveVLLMsShape(t *testing.T) {
	s := start(t, Options{MaxModelLen: 5})
	for name, tc := range map[string]struct {
		path, body string
		status     int
		kind       string
		param      string
	}{
		"an unknown model":         {"/v1/chat/completions", `{"model":"gpt-4","messages":[{"role":"user","content":"a"}]}`, 404, "NotFoundError", "model"},
		"no messages":              {"/v1/chat/completions", `{"model":"phi-3"}`, 400, "BadRequestError", "messages"},
		"content of another kind":  {"/v1/chat/completions", `{"messages":[{"role":"user","content":3}]}`, 400, "BadRequestError", "messages.0"},
		"too long a prompt":        {"/v1/completions", `{"prompt":"a b c d e"}`, 400, "BadRequestError", "max_tokens"},
		"no room for the answer":   {"/v1/completions", `{"prompt":"a b","max_tokens":4}`, 400, "BadRequestError", "max_tokens"},
		"an answer of nothing":     {"/v1/completions", `{"prompt":"a","max_tokens":0}`, 400, "BadRequestError", "max_tokens"},
		"a temperature below zero": {"/v1/completions", `{"prompt":"a","temperature":-1}`, 400, "BadRequestError", "temperature"},
		"a prompt of numbers":      {"/v1/completions", `{"prompt":[1,2]}`, 400, "BadRequestError", "prompt"},
		"no JSON":                  {"/v1/completions", `prompt`, 400, "BadRequestError", ""},
		"no choice":                {"/v1/completions", `{"prompt":"a","n":0}`, 400, "BadRequestError", "n"},
		"an unknown path":          {"/v1/engines", `{}`, 404, "NotFoundError", ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, got := call[errorBody](t, s, http.MethodPost, tc.path, tc.body)
			assert.Equal(t, tc.status, status)
			assert.Equal(t, tc.status, got.Error.Code, "vLLM's code is the status")
			assert.Equal(t, tc.kind, got.Error.Type)
			assert.NotEmpty(t, got.Error.Message)
			if tc.param == "" {
				assert.Nil(t, got.Error.Param)
			} else if assert.NotNil(t, got.Error.Param) {
				assert.Equal(t, tc.param, *got.Error.Param)
			}
		})
	}
	res, err := s.server.Client().Post(s.server.URL+"/v1/completions", "text/plain", strings.NewReader(`{"prompt":"a"}`))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusUnsupportedMediaType, res.StatusCode)
}

// events reads a stream to its end and returns the data of its events.
func events(t *testing.T, body io.Reader) []string {
	t.Helper()
	var all []string
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			all = append(all, data)
		} else {
			assert.Empty(t, lines.Text(), "events are apart by an empty line")
		}
	}
	require.NoError(t, lines.Err())
	return all
}

func TestAStreamSaysTheSameInPieces(t *testing.T) {
	s := start(t, Options{})
	for name, path := range map[string]string{"chat": "/v1/chat/completions", "completion": "/v1/completions"} {
		t.Run(name, func(t *testing.T) {
			res := s.open(t, t.Context(), http.MethodPost, path,
				`{"messages":[{"role":"user","content":"why not?"}],"prompt":"why not?","stream":true,"stream_options":{"include_usage":true}}`)
			defer func() { _ = res.Body.Close() }()
			assert.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
			all := events(t, res.Body)
			require.Equal(t, "[DONE]", all[len(all)-1])
			var text, finish string
			var last completion
			for i, data := range all[:len(all)-1] {
				last = completion{}
				require.NoError(t, json.Unmarshal([]byte(data), &last))
				if len(last.Choices) == 0 {
					continue
				}
				c := last.Choices[0]
				if name == "chat" {
					assert.Equal(t, "chat.completion.chunk", last.Object)
					text += c.Delta.Content
					assert.Equal(t, i == 0, c.Delta.Role == "assistant", "the first event, and no other, names the role")
				} else {
					assert.Equal(t, "text_completion", last.Object)
					text += *c.Text
				}
				if c.FinishReason != nil {
					finish = *c.FinishReason
				}
			}
			assert.Equal(t, "[phi-3] You asked: why not?", text)
			assert.Equal(t, "stop", finish)
			assert.Equal(t, &usage{PromptTokens: 2, CompletionTokens: 5, TotalTokens: 7}, last.Usage)
			assert.Empty(t, last.Choices, "the usage comes last and alone")
		})
	}
}

func TestTokensComeOnTheClock(t *testing.T) {
	s := start(t, Options{FirstToken: time.Second, EachToken: 100 * time.Millisecond})
	got := make(chan string)
	go func() {
		defer close(got)
		res, err := s.server.Client().Post(s.server.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"a","stream":true,"max_tokens":2}`))
		if err != nil {
			return
		}
		defer func() { _ = res.Body.Close() }()
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: {"); ok {
				got <- data
			}
		}
	}()
	for _, pause := range []time.Duration{time.Second, 100 * time.Millisecond} {
		until(t, "the engine waits for the token's time", s.clock.HasWaiters)
		s.clock.Step(pause - 1)
		select {
		case early := <-got:
			t.Fatalf("a token came before its time: %s", early)
		default:
		}
		s.clock.Step(1)
		<-got
	}
	<-got // the event with the reason for the end needs no time
	_, more := <-got
	assert.False(t, more)
	assert.InDelta(t, 1.0, s.metricSum(t, "vllm:time_to_first_token_seconds"), 1e-6)
	assert.InDelta(t, 0.1, s.metricSum(t, "vllm:inter_token_latency_seconds"), 1e-6)
	assert.InDelta(t, 1.1, s.metricSum(t, "vllm:e2e_request_latency_seconds"), 1e-6)
}

func TestLoadingTakesItsTime(t *testing.T) {
	s := start(t, Options{LoadTime: time.Minute})
	for _, path := range []string{"/health", "/v1/models", "/metrics"} {
		status, _ := s.text(t, http.MethodGet, path, "")
		assert.Equal(t, http.StatusServiceUnavailable, status, path)
	}
	s.clock.Step(time.Minute)
	status, body := s.text(t, http.MethodGet, "/health", "")
	assert.Equal(t, http.StatusOK, status)
	assert.Empty(t, body)
	status, models := call[struct{ Data []modelCard }](t, s, http.MethodGet, "/v1/models", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, models.Data, 2)
	assert.Equal(t, "phi-3", models.Data[0].ID)
	assert.Equal(t, epoch.Add(time.Minute).Unix(), models.Data[0].Created)
	assert.Equal(t, defaultMaxModelLen, *models.Data[0].MaxModelLen)
}

func TestFaultsComeAndGo(t *testing.T) {
	s := start(t, Options{Faults: Faults{Unhealthy: true, FailRequests: 1}})
	status, _ := s.text(t, http.MethodGet, "/health", "")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	status, failed := call[errorBody](t, s, http.MethodPost, "/v1/completions", `{"prompt":"a"}`)
	assert.Equal(t, http.StatusInternalServerError, status)
	assert.Equal(t, "InternalServerError", failed.Error.Type)
	status, _ = s.text(t, http.MethodPost, "/v1/completions", `{"prompt":"a"}`)
	assert.Equal(t, http.StatusOK, status, "one request was to fail")

	s.SetFaults(Faults{CutAfterTokens: 2})
	status, _ = s.text(t, http.MethodGet, "/health", "")
	assert.Equal(t, http.StatusOK, status)
	res := s.open(t, t.Context(), http.MethodPost, "/v1/completions", `{"prompt":"a","stream":true}`)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, 2, bytes.Count(got, []byte("data: ")))
}

func TestStartServesUntilStop(t *testing.T) {
	e, err := New(Options{ServedNames: []string{"m"}})
	require.NoError(t, err)
	url, err := e.Start(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	_, err = e.Start(t.Context(), "127.0.0.1:0")
	require.ErrorContains(t, err, "already serving")
	res, err := http.Get(url + "/health")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusOK, res.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	require.NoError(t, e.Stop(t.Context()))
	require.NoError(t, e.Stop(t.Context()), "stopping twice is no error")
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	require.Error(t, err)
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for says, opts := range map[string]Options{
		"ServedNames":     {},
		"EnableLoRA":      {ServedNames: []string{"m"}, Adapters: []Adapter{{Name: "a", Digest: "sha256:0"}}},
		"MaxNumSeqs":      {ServedNames: []string{"m"}, MaxNumSeqs: -1},
		"No adapter":      {ServedNames: []string{"m"}, EnableLoRA: true, Adapters: []Adapter{{Name: "a", Path: t.TempDir()}}},
		"must be provide": {ServedNames: []string{"m"}, EnableLoRA: true, Adapters: []Adapter{{Name: "a"}}},
	} {
		_, err := New(opts)
		assert.ErrorContains(t, err, says)
	}
}
