// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
)

var (
	python  = flag.String("python", "", "a `python` with vLLM; without it nothing is tested")
	running = flag.String(
		"engine",
		"",
		"for developers: the `URL` of an engine that runs already and serves the name "+model,
	)
)

const (
	// model is the served name.
	model = "tiny"
	// loading bounds vLLM's start: a minute on two idle cores.
	loading = 10 * time.Minute
)

// fixture is vLLM with a model of random weights, and the gateway in front of it.
type fixture struct {
	engine, gateway, status string // URLs
	// What runs, where the test has started it.
	engineProcess, gatewayProcess *process.Process
}

// newHouse starts the two, and returns at once: the engine is still loading. Further flags are the gateway's.
func newHouse(t *testing.T, flags ...string) *fixture {
	t.Helper()
	if *python == "" && *running == "" {
		t.Skip("no vLLM: make test-engine has one")
	}
	folder := t.TempDir()
	launcher, err := process.NewLauncher(folder)
	require.NoError(t, err)
	t.Cleanup(launcher.Close)
	h := &fixture{engine: *running}
	if h.engine == "" {
		h.engine, h.engineProcess = startEngine(t, launcher, folder)
	}
	program := filepath.Join(folder, "gateway")
	out, err := exec.Command("go", "build", "-o", program, "kaito.sh/workspace-operator/cmd/gateway").CombinedOutput()
	require.NoError(t, err, string(out))
	addresses, err := process.FreeAddresses(2)
	require.NoError(t, err)
	address, status := addresses[0], addresses[1]
	h.gateway, h.status = "http://"+address, "http://"+status
	h.gatewayProcess = run(t, launcher, process.Spec{Name: "gateway", Binary: program, Args: append([]string{
		"--listen=" + address, "--status-listen=" + status, "--engine=" + h.engine, "--model=" + model, "--drain-delay=0s",
	}, flags...)})
	return h
}

func startEngine(t *testing.T, launcher *process.Launcher, folder string) (string, *process.Process) {
	t.Helper()
	weights := filepath.Join(folder, "model")
	out, err := exec.Command(*python, "model.py", weights).CombinedOutput()
	require.NoError(t, err, string(out))
	ports, err := process.FreePorts(1)
	require.NoError(t, err)
	port := strconv.Itoa(ports[0])
	started := run(t, launcher, process.Spec{
		Name:   "vllm",
		Binary: *python,
		// As the serving pod has it. `vllm serve` is this module, but looks for a package called vllm, which this build is
		// not.
		Args: []string{
			"-m",
			"vllm.entrypoints.openai.api_server",
			"--model=" + weights,
			"--served-model-name=" + model,
			"--host=127.0.0.1",
			"--port=" + port,
			"--max-model-len=4096",
			"--dtype=float32",
			"--enforce-eager",
		},
		// With the paths of its development mode: the gateway must not forward requests to them.
		Env: []string{
			"VLLM_SERVER_DEV_MODE=1",
			"VLLM_CPU_KVCACHE_SPACE=1",
			"HF_HUB_OFFLINE=1",
			"VLLM_NO_USAGE_STATS=1",
			"OMP_NUM_THREADS=1",
		},
	})
	return "http://" + process.Address(ports[0]), started
}

func run(t *testing.T, launcher *process.Launcher, spec process.Spec) *process.Process {
	t.Helper()
	p, err := launcher.Start(spec)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", spec.Name, p.Tail())
		}
		_ = p.Stop() // it may be gone already
	})
	return p
}

// answer is an answer that was read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// call sends a request; a body makes it a POST.
func call(t *testing.T, method, url, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header, string(got)}
}

// field reads one value out of JSON, by its path: choices.0.message.content.
func field(t *testing.T, text, path string) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	var at any
	require.NoError(t, decoder.Decode(&at), text)
	for name := range strings.SplitSeq(path, ".") {
		switch here := at.(type) {
		case map[string]any:
			at = here[name]
		case []any:
			var index int
			_, err := fmt.Sscan(name, &index)
			require.NoError(t, err)
			require.Greater(t, len(here), index, text)
			at = here[index]
		default:
			require.Failf(t, "no such field", "%s of %s", path, text)
		}
	}
	return at
}

// series reads one series of the gateway's metrics page, which has the engine's as well.
func (h *fixture) series(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(call(t, http.MethodGet, h.status+"/metrics", "").body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func until(t *testing.T, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, limit, eventually.Tick, what)
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
