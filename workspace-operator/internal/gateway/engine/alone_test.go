// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/process"
)

// enough is how long the leader was given to answer. It did not in two minutes, either.
const enough = 30 * time.Second

// alone is a rank's engine without the supervisor: what follows it in the command.
func (k *kubelet) alone(t *testing.T, spec process.Spec, rank int) process.Spec {
	t.Helper()
	at := slices.Index(spec.Args, "--")
	require.Positive(t, at)
	command := spec.Args[at+1:]
	for _, arg := range spec.Args[:at] {
		if follower, ok := strings.CutPrefix(arg, "--follower-arg="); ok && rank > 0 {
			command = append(slices.Clone(command), follower)
		}
	}
	spec.Binary, spec.Args = filepath.Join(k.folder, "bin", command[0]), command[1:]
	return spec
}

// TestWhatVLLMDoesWithoutASupervisor is why there is one, and what the simulated engine has learned.
func TestWhatVLLMDoesWithoutASupervisor(t *testing.T) {
	k := newKubelet(t)
	pod := rendered(t, "falcon-40b-instruct", "Standard_NC24ads_A100_v4", 2, traced).Spec
	k.make(t, "weights/data")
	k.templates(t, pod)
	var ranks []*process.Process
	for rank := range 2 {
		spec := k.spec(fmt.Sprintf("pod-%d", rank), pod.Containers[0], fmt.Sprintf("NODE_RANK=%d", rank))
		ranks = append(ranks, run(t, k.launcher, k.alone(t, spec, rank)))
	}
	run(t, k.launcher, k.spec("pod-0", pod.Containers[1]))
	until(t, "the server is ready", loading, answers("/readyz"))
	complete(t, model)

	require.NoError(t, ranks[1].Kill())
	limited, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodPost, clients+"/v1/completions", strings.NewReader(`{"model":"`+model+`","prompt":"x"}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		_ = res.Body.Close()
	}
	require.ErrorIs(t, err, context.DeadlineExceeded, "the leader accepts, and never answers")
	require.NoError(t, ranks[0].Died(), "the leader does not end")
	assert.True(t, answers("/readyz")(), "its health does not show it")
}
