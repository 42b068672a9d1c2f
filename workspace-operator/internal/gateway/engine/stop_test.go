// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/serving"
)

const (
	// streamed is how many tokens a stream has: it lasts well beyond the drain delay.
	streamed = 2500
	// together is how many streams run when the pod is stopped.
	together = 3
	// patience bounds the drain and the test: a busy machine is slow, and what is shown is not how fast it is.
	patience = 10 * time.Minute
	// stalled is how long the gateway waits where the engine is stopped under its streams: vLLM 0.32 ends its core at once
	// and leaves the connections open without an end.
	stalled = 2 * time.Minute
)

// TestStoppingAPodCutsNoStream stops a serving pod in the middle of streams, as the kubelet does: all containers at
// once, each of them first by its preStop hook, where it has one, and then by SIGTERM.
func TestStoppingAPodCutsNoStream(t *testing.T) {
	hook := servingPod().Containers[0].Lifecycle.PreStop
	for name, test := range map[string]struct {
		hook  *corev1.LifecycleHandler
		whole bool
		drain time.Duration
	}{
		"with the engine's hook": {hook, true, patience},
		// This is what the hook is for; it also shows that the test sees a cut.
		"without it": {nil, false, stalled},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, "--drain-delay=5s", "--drain-timeout="+test.drain.String())
			if h.engineProcess == nil {
				t.Skip("an engine that runs already is not stopped")
			}
			until(t, "the engine is ready", loading, func() bool {
				res, err := http.Get(h.status + "/readyz")
				if err != nil {
					return false
				}
				_ = res.Body.Close()
				return res.StatusCode == http.StatusOK
			})
			var begun atomic.Int32
			results := make(chan error, together)
			for range together {
				go func() { results <- readWhole(h.gateway+chatPath, &begun) }()
			}
			until(t, "the streams run", patience, func() bool { return begun.Load() == together })

			var stopped sync.WaitGroup
			stopped.Go(func() { assert.NoError(t, syscall.Kill(h.gatewayProcess.PID(), syscall.SIGTERM)) })
			stopped.Go(func() {
				if test.hook != nil {
					res, err := http.Get(h.status + test.hook.HTTPGet.Path)
					if assert.NoError(t, err) {
						assert.Equal(t, http.StatusOK, res.StatusCode)
						_ = res.Body.Close()
					}
				}
				assert.NoError(t, syscall.Kill(h.engineProcess.PID(), syscall.SIGTERM))
			})
			if test.whole {
				// Endpoints are not everywhere at once: some clients are still sent here.
				late := call(t, http.MethodPost, h.gateway+chatPath, `{`+asked+`,"max_tokens":3}`)
				assert.Equal(t, http.StatusOK, late.status, late.body)
			}
			for range together {
				err := <-results
				if test.whole {
					require.NoError(t, err)
				} else {
					require.Error(t, err, "vLLM ends no stream that runs when it gets SIGTERM")
				}
			}
			stopped.Wait()
			for _, p := range []interface{ Ended() <-chan struct{} }{h.gatewayProcess, h.engineProcess} {
				select {
				case <-p.Ended():
				case <-time.After(eventually.Long):
					require.Fail(t, "a process does not end")
				}
			}
		})
	}
}

// servingPod is what the operator makes for a server of one node.
func servingPod() corev1.PodSpec {
	return serving.Deployment(
		serving.Input{Workspace: &kaitov1alpha1.Workspace{}, Engine: serving.Engine{Software: vllm.Engine{}, Model: model}},
	).Spec.Template.Spec
}

// readWhole reads a stream to its end, and returns an error where that does not come. It counts the stream in begun
// after its first tokens.
func readWhole(url string, begun *atomic.Int32) error {
	res, err := http.Post(
		url,
		"application/json",
		strings.NewReader(
			fmt.Sprintf(`{%s,"max_tokens":%d,"stream":true,"stream_options":{"include_usage":true}}`, asked, streamed),
		),
	)
	if err != nil {
		begun.Add(1)
		return err
	}
	defer func() { _ = res.Body.Close() }()
	events, tokens := 0, 0
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if events++; events == 10 {
			begun.Add(1)
		}
		if data == "[DONE]" {
			if tokens != streamed {
				return fmt.Errorf("the stream ended after %d of %d tokens", tokens, streamed)
			}
			return nil
		}
		var chunk struct {
			Usage *struct {
				Completion int `json:"completion_tokens"`
			} `json:"usage"`
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return fmt.Errorf("event %q: %w", data, err)
		}
		if chunk.Usage != nil {
			tokens = chunk.Usage.Completion
		}
	}
	return errors.Join(fmt.Errorf("the stream broke off after %d events", events), lines.Err())
}
