// SPDX-License-Identifier: Apache-2.0

package simengine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"kaito.sh/e2e/simengine"
	"kaito.sh/shared/test/eventually"
)

// programDir is where the gateway's program is built for this run of the tests.
func programDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("kaito-gateway-test-%d", os.Getpid()))
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programDir()) // what is left is in the temporary folder
		os.Exit(code)
	}))
}

// buildGateway compiles the gateway's program once for all tests: it is another module's, which is run and not
// imported.
var buildGateway = sync.OnceValues(func() (string, error) {
	if err := os.MkdirAll(programDir(), 0o700); err != nil {
		return "", err
	}
	program := filepath.Join(programDir(), "gateway")
	build := exec.Command("go", "build", "-o", program, "./cmd/gateway")
	build.Dir = filepath.Join("..", "..", "workspace-operator")
	if out, err := build.CombinedOutput(); err != nil {
		return string(out), err
	}
	return program, nil
})

// pod is a serving pod in small: a simulated engine and the gateway's program in front of it.
type pod struct {
	engine  *simengine.Engine
	gateway *exec.Cmd
	url     string
	status  string // the URL of probes and metrics
	client  *http.Client
	logs    *bytes.Buffer
	exited  chan error
}

func startPod(t *testing.T, opts simengine.Options, flags ...string) *pod {
	t.Helper()
	program, err := buildGateway()
	require.NoError(t, err, program)
	opts.ServedNames = []string{"workspace-phi-3"}
	engine, err := simengine.New(opts)
	require.NoError(t, err)
	engineURL, err := engine.Start(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = engine.Stop(cancelled()) }) // what still runs at a test's end is cut off

	var free [2]string
	for i := range free {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		free[i] = ln.Addr().String()
		require.NoError(t, ln.Close())
	}
	p := &pod{
		engine: engine,
		url:    "http://" + free[0],
		status: "http://" + free[1],
		client: &http.Client{Transport: &http.Transport{}},
		logs:   &bytes.Buffer{},
		exited: make(chan error, 1),
	}
	p.gateway = exec.Command(
		program,
		append(
			[]string{"--listen", free[0], "--status-listen", free[1], "--engine", engineURL, "--log-level", "DEBUG"},
			flags...)...)
	p.gateway.Env = append(os.Environ(), "GATEWAY_MODEL=workspace-phi-3")
	p.gateway.Stderr = p.logs
	require.NoError(t, p.gateway.Start())
	go func() { p.exited <- p.gateway.Wait() }()
	t.Cleanup(func() {
		_ = p.gateway.Process.Kill() // it may have ended before
		p.client.CloseIdleConnections()
	})
	p.until(t, "/healthz", http.StatusOK)
	return p
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// at is the URL of a path on the port that has it.
func (p *pod) at(path string) string {
	switch path {
	case "/healthz", "/readyz", "/metrics":
		return p.status + path
	}
	return p.url + path
}

// until waits for the path to answer with the status.
func (p *pod) until(t *testing.T, path string, status int) {
	t.Helper()
	require.Eventually(t, func() bool {
		res, err := p.client.Get(p.at(path))
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res.StatusCode == status
	}, eventually.Short, eventually.Tick, "%s answers %d", path, status)
}

func (p *pod) do(t *testing.T, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.at(path), strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := p.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(got)
}

func TestAQuestionIsAnsweredThroughTheGateway(t *testing.T) {
	p := startPod(
		t, simengine.Options{EnableLoRA: true, Adapters: []simengine.Adapter{{Name: "dolly", Digest: "sha256:4f53"}}},
	)
	p.until(t, "/readyz", http.StatusOK)
	for name, tc := range map[string]struct{ path, body, want string }{
		"the quick start's call":        {"/chat", `{"prompt":"YOUR QUESTION HERE"}`, `{"Result":"[workspace-phi-3] You asked: YOUR QUESTION HERE"}`},
		"messages to an adapter":        {"/chat", `{"model":"dolly","messages":[{"role":"user","content":"why?"}]}`, `{"Result":"[workspace-phi-3 + adapter sha256:4f53] You asked: why?"}`},
		"a bound on the length":         {"/chat", `{"prompt":"one two three","generate_kwargs":{"max_length":4,"do_sample":false}}`, `{"Result":"[workspace-phi-3] You asked: one"}`},
		"a model that is unknown":       {"/chat", `{"model":"x","prompt":"why?"}`, "{\"error\":{\"message\":\"The model `x` does not exist. Available: dolly, workspace-phi-3.\",\"type\":\"invalid_request_error\",\"param\":\"model\",\"code\":\"model_not_found\"}}"},
		"the same through OpenAI's API": {"/v1/chat/completions", `{"model":"x","messages":[{"role":"user","content":"why?"}]}`, "{\"error\":{\"message\":\"The model `x` does not exist. Available: dolly, workspace-phi-3.\",\"type\":\"invalid_request_error\",\"param\":\"model\",\"code\":\"model_not_found\"}}"},
	} {
		t.Run(name, func(t *testing.T) {
			_, body := p.do(t, http.MethodPost, tc.path, tc.body)
			assert.JSONEq(t, tc.want, body)
		})
	}
	_, body := p.do(
		t,
		http.MethodPost,
		"/v1/chat/completions",
		`{"model":"dolly","messages":[{"role":"user","content":"why?"}],"stream":true}`,
		"X-Request-Id",
		"abc-1",
	)
	assert.Contains(t, body, `"id":"chatcmpl-abc-1"`, "the engine knows the request by the client's name for it")
	var said strings.Builder
	for line := range strings.Lines(body) {
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if data, ok := strings.CutPrefix(line, "data: {"); ok {
			require.NoError(t, json.Unmarshal([]byte("{"+data), &chunk))
			said.WriteString(chunk.Choices[0].Delta.Content)
		}
	}
	assert.Equal(t, "[workspace-phi-3 + adapter sha256:4f53] You asked: why?", said.String())
}

func TestTheEnginesAdministrationIsOutOfReach(t *testing.T) {
	p := startPod(t, simengine.Options{EnableLoRA: true, RuntimeLoRA: true, DevMode: true})
	for _, path := range []string{
		"/pause", "/sleep", "/update_weights", "/collective_rpc", "/invocations", "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
		"/reset_prefix_cache", "/start_profile", "/abort_requests", "/tokenize", "/v1/../pause", "//pause",
	} {
		status, body := p.do(t, http.MethodPost, path, `{"prompt":"a"}`)
		assert.Equal(t, http.StatusNotFound, status, path)
		assert.Contains(t, body, `"code":"unknown_url"`)
	}
	assert.Empty(t, p.engine.AdminCalls())
}

func TestReadinessFollowsTheEngine(t *testing.T) {
	p := startPod(t, simengine.Options{LoadTime: 500 * time.Millisecond})
	status, body := p.do(t, http.MethodGet, "/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, status, body)
	p.until(t, "/readyz", http.StatusOK)
	p.engine.SetFaults(simengine.Faults{Unhealthy: true})
	p.until(t, "/readyz", http.StatusServiceUnavailable)
	p.engine.SetFaults(simengine.Faults{})
	p.until(t, "/readyz", http.StatusOK)
	require.NoError(t, p.engine.Stop(t.Context()))
	p.until(t, "/readyz", http.StatusServiceUnavailable)
	p.until(t, "/healthz", http.StatusOK)
	status, _ = p.do(t, http.MethodPost, "/chat", `{"prompt":"a"}`)
	assert.Equal(t, http.StatusServiceUnavailable, status)
}

func TestBothPagesOfMetricsAreOne(t *testing.T) {
	p := startPod(t, simengine.Options{})
	_, _ = p.do(t, http.MethodPost, "/chat", `{"prompt":"one two"}`)
	_, page := p.do(t, http.MethodGet, "/metrics", "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	require.NoError(t, err)
	require.Contains(t, families, "vllm:prompt_tokens_total")
	assert.InDelta(t, 2, families["vllm:prompt_tokens_total"].Metric[0].Counter.GetValue(), 1e-9)
	require.Contains(t, families, "kaito_gateway_requests_total")
	require.NoError(t, p.engine.Stop(t.Context()))
	status, page := p.do(t, http.MethodGet, "/metrics", "")
	assert.Equal(t, http.StatusOK, status)
	assert.NotContains(t, page, "vllm:")
	assert.Contains(t, page, "\nkaito_gateway_engine_up 0\n")
}

func TestKeysOfAFileAreAskedForAndLogsTellNothing(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(keys, []byte("the-old-key\n"), 0o600))
	p := startPod(t, simengine.Options{}, "--api-key-file", keys)
	with := func(key string) int {
		status, _ := p.do(t, http.MethodPost, "/chat", `{"prompt":"a private question"}`, "Authorization", "Bearer "+key)
		return status
	}
	assert.Equal(t, http.StatusUnauthorized, with("no-key"))
	assert.Equal(t, http.StatusOK, with("the-old-key"))
	require.NoError(t, os.WriteFile(keys+".new", []byte("the-new-key\n"), 0o600))
	require.NoError(t, os.Rename(keys+".new", keys))
	require.Eventually(t, func() bool { return with("the-new-key") == http.StatusOK }, eventually.Short, eventually.Tick)
	assert.Equal(t, http.StatusUnauthorized, with("the-old-key"))

	p.stop(t)
	logs := p.logs.String()
	assert.Contains(t, logs, `"route":"/chat"`)
	for _, secret := range []string{"private", "the-old-key", "the-new-key", "no-key"} {
		assert.NotContains(t, logs, secret)
	}
}

// stop sends SIGTERM and waits for a clean exit, after which the logs can be read.
func (p *pod) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.gateway.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.exited:
		require.NoError(t, err, p.logs.String())
	case <-time.After(eventually.Long):
		t.Fatal("the gateway does not stop")
	}
}

func TestAStreamOutlivesTheSignalToStop(t *testing.T) {
	p := startPod(t, simengine.Options{}, "--drain-delay", "1s")
	p.until(t, "/readyz", http.StatusOK)
	res, err := p.client.Post(
		p.url+"/v1/completions",
		"application/json",
		strings.NewReader(`{"prompt":"one two three","stream":true}`),
	)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	p.engine.SetFaults(simengine.Faults{ExtraEachToken: 500 * time.Millisecond})
	lines := bufio.NewReader(res.Body)
	_, err = lines.ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, p.gateway.Process.Signal(syscall.SIGTERM))
	p.until(t, "/readyz", http.StatusServiceUnavailable)
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	assert.True(t, bytes.HasSuffix(rest, []byte("data: [DONE]\n\n")), "the stream came to its end: %s", rest)
	select {
	case err := <-p.exited:
		require.NoError(t, err, p.logs.String())
	case <-time.After(eventually.Short):
		t.Fatal("the gateway does not stop")
	}
}
