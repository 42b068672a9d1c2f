// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/process"
)

var (
	rate     = flag.Int("rate", 100, "requests a second")
	rounds   = flag.Int("rounds", 1, "times that the ways to the engine take turns; the median round counts")
	slice    = flag.Duration("slice", 200*time.Millisecond, "how long one turn takes")
	streams  = flag.Int("streams", 10, "streamed answers at once")
	duration = flag.Duration("duration", 2*time.Second, "how long memory is watched")
	slow     = flag.Int("slow", 100, "connections that send as slowly as they can")
	strict   = flag.Bool(
		"strict", false, "fail above the bars of time and memory, which mean little on a busy machine or in a short run",
	)
	profile = flag.String(
		"profile",
		"",
		"for developers: the gateway as a part of this program, with its CPU profile written to this `file`",
	)
)

// program is the gateway's, made once.
var program string

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		if err := runSubject(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "gateway-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }() // what is left is in the temporary folder
	program = filepath.Join(folder, "gateway")
	if out, err := exec.Command("go", "build", "-o", program, "kaito.sh/workspace-operator/cmd/gateway").
		CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the gateway: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// fixture is the engine with the clients of each path to it.
type fixture struct {
	launcher *process.Launcher
	direct   *subject
	bare     *subject
	gateway  *subject
}

// newHouse starts engine, bare proxy and gateway; flags are the gateway's.
func newHouse(t *testing.T, flags ...string) *fixture {
	t.Helper()
	launcher, err := process.NewLauncher(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(launcher.Close)
	h := &fixture{launcher: launcher}
	h.direct = startSubject(t, launcher, roleEngine, "")
	h.bare = startSubject(t, launcher, roleBare, h.direct.url)
	h.gateway = startGateway(t, launcher, h.direct.url, flags...)
	return h
}

func (h *fixture) ways() []*subject { return []*subject{h.direct, h.bare, h.gateway} }
