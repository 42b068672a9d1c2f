// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/fakeazure"
)

func TestProgramPrintsItsConfigAndPlaysAScenario(t *testing.T) {
	scenario := filepath.Join(t.TempDir(), "scenario.yaml")
	require.NoError(t, os.WriteFile(scenario, []byte("events:\n- power: Stopped\n"), 0o600))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"--dir", t.TempDir(), "--cluster", "blue", "--scenario", scenario, "--quota", "cores=100:40"}, writer, io.Discard)
	}()
	var text strings.Builder
	lines := bufio.NewScanner(reader)
	admin := ""
	for lines.Scan() && lines.Text() != "# ready" {
		if address, ok := strings.CutPrefix(lines.Text(), "# admin: "); ok {
			admin = address
		}
		text.WriteString(lines.Text() + "\n")
	}
	config := map[string]any{}
	require.NoError(t, yaml.Unmarshal([]byte(text.String()), &config))
	assert.Equal(t, "blue", config["clusterName"])
	assert.Contains(t, config["resourceManagerEndpoint"], "https://127.0.0.1:")
	assert.FileExists(t, config["caFile"].(string))

	response, err := http.Get(admin + "/admin/state")
	require.NoError(t, err)
	state := fakeazure.State{}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&state))
	require.NoError(t, response.Body.Close())
	assert.Equal(t, "Stopped", state.PowerState)
	stop()
	require.NoError(t, <-done)
}

func TestInvalidFlags(t *testing.T) {
	cases := []struct {
		name string
		args []string
		says string
	}{
		{"quota without a limit", []string{"--quota", "cores"}, `"cores" is not name=limit[:used]`},
		{"speed of zero", []string{"--speed", "0"}, "--speed is 0"},
		{"argument", []string{"serve"}, `unexpected argument "serve"`},
		{"missing scenario", []string{"--scenario", "none.yaml"}, "none.yaml"},
		{"missing kubeconfig", []string{"--kubeconfig", "none"}, "--kubeconfig"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			assert.ErrorContains(t, run(t.Context(), c.args, io.Discard, io.Discard), c.says)
		})
	}
}

func TestHelpNamesFlagsAndErrorKinds(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), []string{"--help"}, io.Discard, &out)
	assert.ErrorIs(t, err, flag.ErrHelp)
	assert.Contains(t, out.String(), "-scenario")
	assert.Contains(t, out.String(), "ZonalAllocationFailed")
}
