// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheProgramServesUntilItIsToldToStop(t *testing.T) {
	program := filepath.Join(t.TempDir(), "simengine")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	engine := exec.Command(
		program, "serve", "a/b", "--served-model-name", "phi-3", "--host", "127.0.0.1", "--port", "0", "--max-model-len",
		"100",
	)
	stdout, err := engine.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, engine.Start())
	t.Cleanup(func() { _ = engine.Process.Kill() }) // it may have ended before
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	_, url, found := strings.Cut(strings.TrimSpace(line), " on ")
	require.True(t, found, line)

	res, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"why?"}`))
	require.NoError(t, err)
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Contains(t, string(got), "[phi-3] You asked: why?")
	require.NoError(t, engine.Process.Signal(syscall.SIGTERM))
	require.NoError(t, engine.Wait())
}

func TestTheProgramRefusesWhatItDoesNotKnow(t *testing.T) {
	program := filepath.Join(t.TempDir(), "simengine")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	out, err = exec.Command(program, "serve", "a/b", "--max-model-length", "5").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "simengine: unrecognized arguments: --max-model-length")
}
