// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/serving"
)

// load is what vLLM does first with a model's name.
const load = `import huggingface_hub; print(huggingface_hub.hf_hub_download("organisation/model", "config.json"))`

// The engine's own libraries load from a hub whose certificate only the cluster's authorities have signed, by what the
// operator gives the container; the file itself is made by the runner's trust, whose tests are there.
func TestEngineHubClientTrustsTheClusterAuthorities(t *testing.T) {
	if *python == "" {
		t.Skip("no vLLM: make test-engine has one")
	}
	hub := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/resolve/main/config.json") {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Repo-Commit", strings.Repeat("0", 40))
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write([]byte("{}"))
	}))
	hub.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	hub.StartTLS()
	t.Cleanup(hub.Close)
	for name, test := range map[string]struct {
		authorities string
		loads       bool
	}{"with authorities": {"authorities", true}, "without": {"", false}} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			file := filepath.Join(folder, "authorities.pem")
			require.NoError(
				t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hub.Certificate().Raw}), 0o600),
			)
			run := exec.CommandContext(t.Context(), *python, "-c", load)
			run.Env = append(os.Environ(), "HF_HUB_DOWNLOAD_TIMEOUT=5", "HF_HUB_ETAG_TIMEOUT=5")
			for _, e := range containerEnv(hub.URL, test.authorities) {
				value := strings.Replace(e.Value, "/trusted/authorities.pem", file, 1)
				run.Env = append(run.Env, e.Name+"="+strings.Replace(value, "/cache", folder, 1))
			}
			out, err := run.CombinedOutput()
			if !test.loads {
				require.Error(t, err)
				assert.NoFileExists(t, filepath.Join(folder, "huggingface", "hub", "models--organisation--model", "refs", "main"))
				return
			}
			require.NoError(t, err, string(out))
			assert.FileExists(t, strings.TrimSpace(string(out)))
		})
	}
}

// containerEnv is the environment that the operator gives an engine which loads from that hub.
func containerEnv(hub, authorities string) []corev1.EnvVar {
	in := serving.Input{
		Workspace:   &kaitov1alpha1.Workspace{},
		Engine:      serving.Engine{Software: vllm.Engine{}, Model: "organisation/model"},
		ModelHub:    hub,
		Authorities: authorities,
	}
	return serving.Deployment(in).Spec.Template.Spec.Containers[0].Env
}
