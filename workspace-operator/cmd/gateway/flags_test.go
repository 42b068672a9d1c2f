// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/workspace-operator/internal/gateway"
)

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestFlagsOverrideEnvironmentWhichOverridesDefaults(t *testing.T) {
	got, err := parse(
		[]string{"--model", "phi-3", "--max-queue=7", "--prompt-api", "completions"},
		env(
			map[string]string{
				"GATEWAY_MODEL":          "other",
				"GATEWAY_STREAM_TIMEOUT": "2h",
				"GATEWAY_LOG_LEVEL":      "debug",
				"GATEWAY_MAX_QUEUE":      "9",
			},
		),
		io.Discard,
	)
	require.NoError(t, err)
	want := gateway.DefaultConfig()
	want.Model, want.MaxQueue, want.PromptAPI, want.StreamTimeout = "phi-3", 7, gateway.PromptAPICompletions, 2*time.Hour
	assert.Equal(t, want, got.config)
	assert.Equal(t, slog.LevelDebug, got.logLevel)
}

func TestTheDefaultsListenWhereTheServicePoints(t *testing.T) {
	got, err := parse(nil, env(nil), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, ":5000", got.config.Listen)
	assert.Equal(t, ":5001", got.config.StatusListen)
	assert.Equal(t, "http://127.0.0.1:8000", got.config.Engine)
}

func TestWhatCannotBeReadIsNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		env  map[string]string
		says string
	}{
		"an unknown flag":           {[]string{"--modell", "a"}, nil, "modell"},
		"a number that is none":     {[]string{"--max-queue", "many"}, nil, "max-queue"},
		"an argument":               {[]string{"--model", "a", "b"}, nil, `"b" is not a flag`},
		"a variable's value":        {nil, map[string]string{"GATEWAY_DRAIN_TIMEOUT": "soon"}, `GATEWAY_DRAIN_TIMEOUT is "soon"`},
		"a level that there is not": {[]string{"--log-level", "loud"}, nil, "log-level"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(tc.args, env(tc.env), io.Discard)
			assert.ErrorContains(t, err, tc.says)
		})
	}
}

func TestHelpNamesEveryFlagAndItsVariable(t *testing.T) {
	out := &bytes.Buffer{}
	_, err := parse([]string{"--help"}, env(nil), out)
	require.ErrorIs(t, err, flag.ErrHelp)
	for _, name := range []string{
		"listen", "status-listen", "engine", "model", "prompt-api", "api-key-file", "max-body-bytes", "max-concurrent", "max-queue", "queue-timeout", "request-timeout",
		"stream-timeout", "read-header-timeout", "read-timeout", "write-timeout", "idle-timeout", "drain-delay", "drain-timeout", "log-level",
	} {
		assert.Contains(t, out.String(), "--"+name+" ")
		assert.Contains(t, out.String(), "($"+envName(name)+")")
	}
}

func TestRunRefusesAConfigurationThatCannotServe(t *testing.T) {
	err := run(t.Context(), []string{"--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0"}, env(nil), io.Discard)
	require.ErrorContains(t, err, `model is ""`)
	err = run(t.Context(), []string{"--listen", "nowhere:x", "--model", "m"}, env(nil), io.Discard)
	require.ErrorContains(t, err, `listen is "nowhere:x"`)
	err = run(
		t.Context(), []string{"--listen", "127.0.0.1:0", "--status-listen", "nowhere:x", "--model", "m"}, env(nil),
		io.Discard,
	)
	assert.ErrorContains(t, err, `status-listen is "nowhere:x"`)
}

func TestRunServesUntilItIsToldToStop(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errors.New("at once"))
	logs := &bytes.Buffer{}
	require.NoError(
		t,
		run(
			ctx, []string{"--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0", "--model", "m", "--drain-delay", "0s"},
			env(nil), logs,
		),
	)
	for _, line := range []string{`"msg":"Serving"`, `"msg":"Drained"`} {
		assert.Contains(t, logs.String(), line)
	}
	assert.Equal(t, strings.Count(logs.String(), "\n"), strings.Count(logs.String(), `{"time":`), "every line is JSON")
}
