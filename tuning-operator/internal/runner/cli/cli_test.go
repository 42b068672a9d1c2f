// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/runner/cli"
	"kaito.sh/tuning-operator/internal/runner/netguard"
)

const revision = "0123456789abcdef0123456789abcdef01234567"

// world is a TLS server with a HuggingFace mirror, files and a registry.
type world struct {
	*httptest.Server
	host  string
	files map[string]string
	// hold, if set, is called for each requested file.
	hold func(r *http.Request)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{files: map[string]string{}}
	reg := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	w.Server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/") {
			if u, p, _ := r.BasicAuth(); u != "robot" || p != "s3cret" {
				rw.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				rw.WriteHeader(http.StatusUnauthorized)
				return
			}
			reg.ServeHTTP(rw, r)
			return
		}
		if w.hold != nil {
			w.hold(r)
		}
		body, ok := w.files[r.URL.Path]
		if !ok {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(rw, body)
	}))
	t.Cleanup(w.Close)
	w.host = strings.TrimPrefix(w.URL, "https://")
	w.files["/api/models/org/model/revision/main"] = `{"sha":"` + revision + `","siblings":[{"rfilename":"model.safetensors"},{"rfilename":"config.json"}]}`
	w.files["/org/model/resolve/"+revision+"/model.safetensors"] = "weights"
	w.files["/org/model/resolve/"+revision+"/config.json"] = "{}"
	w.files["/train.jsonl"] = `{"text":"one"}` + "\n" + `{"text":"two"}`
	return w
}

func (w *world) credentials(t *testing.T) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), ".dockerconfigjson")
	body := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, w.host, base64.StdEncoding.EncodeToString([]byte("robot:s3cret")))
	require.NoError(t, os.WriteFile(p, []byte(body), 0o600))
	return p
}

type outcome struct {
	code    int
	out     string
	stderr  string
	message message.Result
}

func (w *world) run(t *testing.T, ctx context.Context, env map[string]string, args ...string) outcome {
	t.Helper()
	var out, stderr bytes.Buffer
	term := filepath.Join(t.TempDir(), "termination-log")
	code := cli.Run(ctx, cli.Env{
		Args: append(args, "--termination-log", term), Out: &out, Err: &stderr, Clock: clock.RealClock{},
		Getenv: func(k string) string {
			if k == "HF_ENDPOINT" && env[k] == "" {
				return w.URL
			}
			return env[k]
		},
		Transport: func(p netguard.Policy) *http.Client {
			if !p.AllowLocal {
				return &http.Client{Transport: p.Transport(), CheckRedirect: netguard.CheckRedirect}
			}
			return w.Client()
		},
	})
	o := outcome{code: code, out: out.String(), stderr: stderr.String()}
	if raw, err := os.ReadFile(term); err == nil {
		o.message, err = message.Parse(string(raw))
		require.NoError(t, err)
	}
	return o
}

func adapter(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(`{"peft_type":"LORA"}`), 0o600))
	header := `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	var b bytes.Buffer
	require.NoError(t, binary.Write(&b, binary.LittleEndian, uint64(len(header))))
	b.WriteString(header + "\x00\x00\x00\x00")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), b.Bytes(), 0o600))
	return dir
}

func TestFetchThenPushThenFetchAgain(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	facts := filepath.Join(dir, "facts.json")
	o := w.run(t, context.Background(), nil, "fetch", "--allow-private",
		"--model", "org/model", "--model-dir", filepath.Join(dir, "model"),
		"--dataset-url", w.URL+"/train.jsonl?download=true", "--dataset-dir", filepath.Join(dir, "data"),
		"--check-push", w.host+"/team/adapter:0.0.1", "--push-credentials", w.credentials(t), "--facts", facts)
	require.Zero(t, o.code, o.out)
	require.NotNil(t, o.message.Fetch)
	assert.Equal(t, "org/model", o.message.Fetch.BaseModel)
	assert.Equal(t, revision, o.message.Fetch.BaseRevision)
	assert.EqualValues(t, 2, o.message.Fetch.Rows)
	assert.Equal(t, "text", o.message.Fetch.DatasetSchema)
	assert.Regexp(t, "^sha256:", o.message.Fetch.DatasetDigest)
	for _, line := range strings.Split(strings.TrimSpace(o.out), "\n") {
		assert.True(t, json.Valid([]byte(line)), "not structured: %s", line)
	}

	loss := 0.5
	trained := filepath.Join(dir, "train.json")
	raw, err := message.Result{Step: message.StepTrain, Train: &message.Train{Step: 10, Loss: &loss}}.Encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(trained, raw, 0o600))
	from := adapter(t)
	require.NoError(t, os.WriteFile(filepath.Join(from, "chat_template.jinja"), []byte("{{ messages }}"), 0o600))
	push := []string{
		"push",
		"--allow-private",
		"--from",
		from,
		"--to",
		w.host + "/team/adapter:0.0.1",
		"--credentials",
		w.credentials(t),
		"--facts",
		facts,
		"--train-result",
		trained,
	}
	pushed := w.run(t, context.Background(), nil, push...)
	require.Zero(t, pushed.code, pushed.out)
	require.NotNil(t, pushed.message.Push)
	assert.Equal(t, w.host+"/team/adapter:0.0.1", pushed.message.Push.Image)
	assert.Equal(t, revision, pushed.message.Push.BaseRevision)
	assert.True(t, pushed.message.Push.ChatTemplate)
	assert.Equal(t, o.message.Fetch.DatasetDigest, pushed.message.Push.DatasetDigest)
	again := w.run(t, context.Background(), nil, push...)
	assert.Equal(t, pushed.message, again.message, "a repeated push gives the same digest")

	// If the message of push is lost, the registry has the result.
	asked := w.run(
		t, context.Background(), nil, "resolve", "--allow-private", "--image", w.host+"/team/adapter:0.0.1", "--credentials",
		w.credentials(t),
	)
	require.Zero(t, asked.code, asked.out)
	assert.Equal(t, message.StepResolve, asked.message.Step)
	require.NotNil(t, asked.message.Push)
	assert.Greater(t, asked.message.Push.Size, pushed.message.Push.Size, "of the layers")
	asked.message.Push.Size = pushed.message.Push.Size
	assert.Equal(t, pushed.message.Push, asked.message.Push)

	// Pull by digest, as an engine does: the files of the adapter are the same.
	got := filepath.Join(dir, "got")
	back := w.run(t, context.Background(), nil, "fetch", "--allow-private", "--credentials", w.credentials(t),
		"--model-image", w.host+"/team/adapter@"+pushed.message.Push.Digest, "--model-dir", got)
	require.Zero(t, back.code, back.out)
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"} {
		want, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(t, err)
		have, err := os.ReadFile(filepath.Join(got, name))
		require.NoError(t, err)
		assert.Equal(t, want, have)
	}
}

func TestPermanentFailures(t *testing.T) {
	for name, c := range map[string]struct {
		args   func(w *world, dir string) []string
		reason string
		code   int
		says   string
	}{
		"a bad row": {func(w *world, dir string) []string {
			w.files["/train.jsonl"] = `{"text":"one"}` + "\n{}"
			return []string{"fetch", "--allow-private", "--dataset-url", w.URL + "/train.jsonl", "--dataset-dir", dir}
		}, tuningv1alpha1.ReasonDatasetInvalid, message.ExitPermanent, "row 2"},
		"a bad row prevents fetching the model": {func(w *world, dir string) []string {
			w.files["/train.jsonl"] = "{}"
			w.hold = func(r *http.Request) {
				assert.NotContains(t, r.URL.Path, "model")
			}
			return []string{"fetch", "--allow-private", "--dataset-url", w.URL + "/train.jsonl", "--dataset-dir", dir, "--model", "org/model", "--model-dir", dir}
		}, tuningv1alpha1.ReasonDatasetInvalid, message.ExitPermanent, "row 1"},
		"a loopback source without --allow-private": {func(w *world, dir string) []string {
			return []string{"fetch", "--dataset-url", w.URL + "/train.jsonl", "--dataset-dir", dir}
		}, tuningv1alpha1.ReasonSourceForbidden, message.ExitPermanent, "127.0.0.1"},
		"a loopback registry without --allow-private": {func(w *world, dir string) []string {
			return []string{"fetch", "--dataset-image", w.host + "/data:1", "--dataset-dir", dir}
		}, tuningv1alpha1.ReasonSourceForbidden, message.ExitPermanent, "127.0.0.1"},
		"a refused push before anything is fetched": {func(w *world, dir string) []string {
			w.hold = func(r *http.Request) { assert.Fail(t, "fetched", r.URL.Path) }
			return []string{"fetch", "--allow-private", "--dataset-url", w.URL + "/train.jsonl", "--dataset-dir", dir, "--check-push", w.host + "/x:1"}
		}, tuningv1alpha1.ReasonOutputDenied, message.ExitPermanent, "credentials"},
		"an incomplete adapter": {func(w *world, dir string) []string {
			return []string{"push", "--allow-private", "--from", dir, "--to", w.host + "/x:1"}
		}, tuningv1alpha1.ReasonOutputInvalid, message.ExitPermanent, "adapter_config.json"},
		"an unknown tag": {func(w *world, _ string) []string {
			return []string{"resolve", "--allow-private", "--image", w.host + "/team/nothing:1", "--credentials", w.credentials(t)}
		}, tuningv1alpha1.ReasonSourceNotFound, message.ExitPermanent, "team/nothing"},
		"an invalid docker config": {func(w *world, dir string) []string {
			p := filepath.Join(dir, "secret")
			_ = os.WriteFile(p, []byte("hunter2"), 0o600)
			return []string{"push", "--allow-private", "--from", adapter(t), "--to", w.host + "/x:1", "--credentials", p}
		}, tuningv1alpha1.ReasonCredentialsInvalid, message.ExitPermanent, "docker-registry"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			o := w.run(t, context.Background(), nil, c.args(w, t.TempDir())...)
			assert.Equal(t, c.code, o.code)
			assert.Equal(t, c.reason, o.message.Reason)
			assert.True(t, o.message.Permanent)
			assert.Contains(t, o.message.Message, c.says)
			assert.NotContains(t, o.out+o.message.Message, "hunter2")
		})
	}
}

func TestInterruptIsNotAFailure(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	w.hold = func(r *http.Request) { cancel(); <-r.Context().Done() }
	o := w.run(
		t, ctx, nil, "fetch", "--allow-private", "--dataset-url", w.URL+"/train.jsonl", "--dataset-dir", t.TempDir(),
	)
	assert.Equal(t, message.ExitPreempted, o.code)
	assert.Equal(t, tuningv1alpha1.ReasonInterrupted, o.message.Reason)
	assert.False(t, o.message.Permanent)
}

func TestFilesOfTheSameNameAreKept(t *testing.T) {
	w := newWorld(t)
	w.files["/a/train.jsonl"], w.files["/b/train.jsonl"] = `{"text":"a"}`, `{"text":"b"}`
	o := w.run(t, context.Background(), nil, "fetch", "--allow-private", "--dataset-dir", t.TempDir(),
		"--dataset-url", w.URL+"/a/train.jsonl", "--dataset-url", w.URL+"/b/train.jsonl")
	require.Zero(t, o.code, o.out)
	assert.EqualValues(t, 2, o.message.Fetch.Rows)
}

func TestUsageErrors(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"two models":               {[]string{"fetch", "--model", "a/b", "--model-image", "x/y:1", "--model-dir", "m"}, "mutually exclusive"},
		"two datasets":             {[]string{"fetch", "--dataset", "a/b", "--dataset-url", "https://x", "--dataset-dir", "m"}, "mutually exclusive"},
		"a model without a folder": {[]string{"fetch", "--model", "a/b"}, "--model-dir"},
		"nothing":                  {[]string{"fetch"}, "nothing to fetch"},
		"two outputs":              {[]string{"push", "--from", "x", "--to", "a/b:1", "--to-volume", "c"}, "exactly one"},
		"no output":                {[]string{"push", "--from", "x"}, "exactly one"},
		"an unknown flag":          {[]string{"push", "--frm", "x"}, "unknown flag"},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.run(t, context.Background(), nil, c.args...)
			assert.Equal(t, 2, o.code)
			assert.Contains(t, o.stderr, c.says)
		})
	}
}
