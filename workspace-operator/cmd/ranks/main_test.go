// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheProgramInstallsItselfAndRuns(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "built")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	into := t.TempDir()
	for range 2 { // the kubelet can run it again
		out, err = exec.Command(program, "install", into).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	entries, err := os.ReadDir(into)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left of a copy")
	out, err = exec.Command(filepath.Join(into, "ranks"), "--help").CombinedOutput()
	require.NoError(t, err)
	assert.Contains(t, string(out), "127 where the engine's program does not start")
	assert.Contains(t, string(out), "-follower-arg")
	out, err = exec.Command(program, "install", filepath.Join(into, "missing")).CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "no such file or directory")
}

func TestWrongArgumentsAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"no command: give install or run; see --help":                                nil,
		`command "start": give install or run; see --help`:                           {"start"},
		"usage: ranks install FOLDER":                                                {"install"},
		"--port is required: give the TCP port on which rank 0 waits for the others": {"run", "--", "x"},
		"flag provided but not defined: -ranks":                                      {"run", "--ranks=2"},
		"no command: give the engine's program and its arguments after --":           {"run", "--rank=0", "--nodes=2", "--leader=a", "--port=1"},
		`--rank is "2": give a number from 0 to 1`:                                   {"run", "--rank=2", "--nodes=2", "--leader=a", "--port=1", "x"},
	} {
		var help bytes.Buffer
		code, err := run(t.Context(), args, &help)
		assert.Equal(t, exitUsage, code, args)
		assert.EqualError(t, err, want)
	}
}
