// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/process"
)

// server is a program that listens on a port, as far as a launcher can see.
func server(t *testing.T, launcher *process.Launcher, port int) error {
	t.Helper()
	script := "echo serving"
	if listener, err := net.Listen("tcp", process.Address(port)); err != nil {
		script = "echo '" + err.Error() + "'; exit 1"
	} else {
		require.NoError(t, listener.Close())
	}
	started, err := launcher.Start(process.Spec{Name: "server", Binary: "/bin/sh", Args: []string{"-c", script}})
	require.NoError(t, err)
	<-started.Ended()
	return started.Died()
}

func TestAStartIsTriedAgainWhenItsPortWasTaken(t *testing.T) {
	launcher, err := process.NewLauncher(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(launcher.Close)
	taken, err := net.Listen("tcp", process.Loopback+":0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })

	tries := 0
	err = process.RetryPortTaken(t.Context(), func() error {
		tries++
		if tries == 1 {
			return server(t, launcher, taken.Addr().(*net.TCPAddr).Port)
		}
		ports, err := process.FreePorts(1)
		require.NoError(t, err)
		return server(t, launcher, ports[0])
	})
	assert.Equal(t, 2, tries)
	// The second server ended too, but no port was the reason: the log's first run does not count.
	require.ErrorContains(t, err, "server ended unexpectedly (exit status 0)")
	require.NotErrorIs(t, err, process.ErrPortTaken)
}

func TestOtherFailuresAreNotTriedAgain(t *testing.T) {
	tries := 0
	failure := errors.New("a wrong flag")
	err := process.RetryPortTaken(t.Context(), func() error { tries++; return failure })
	require.ErrorIs(t, err, failure)
	assert.Equal(t, 1, tries)

	tries = 0
	err = process.RetryPortTaken(t.Context(), func() error { tries++; return process.ErrPortTaken })
	require.ErrorIs(t, err, process.ErrPortTaken)
	assert.Equal(t, 3, tries, "a start that always fails ends")
}

func TestFreePortsDiffer(t *testing.T) {
	ports, err := process.FreePorts(200)
	require.NoError(t, err)
	seen := map[int]bool{}
	for _, port := range ports {
		assert.False(t, seen[port], port)
		seen[port] = true
		assert.Less(t, port, 32768, "outgoing connections take ports from here on")
	}
}
