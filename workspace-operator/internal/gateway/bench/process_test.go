// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
)

// subject is a process that is measured, and the way to the engine that leads through it.
type subject struct {
	*process.Process
	name    string
	address string
	url     string
	pages   string // the URL of the metrics
}

func startSubject(t *testing.T, launcher *process.Launcher, role, engine string) *subject {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return started(
		t,
		launcher,
		process.Spec{
			Name:   role,
			Binary: self,
			Env:    []string{envRole + "=" + role, envEngine + "=" + engine, envProfile + "=" + *profile},
		},
	)
}

// startGateway starts the gateway's program. It takes as many requests at once as the references do, unless flags say
// otherwise.
func startGateway(t *testing.T, launcher *process.Launcher, engine string, flags ...string) *subject {
	t.Helper()
	if *profile != "" {
		return startSubject(t, launcher, roleGateway, engine)
	}
	args := []string{
		"--listen=127.0.0.1:0",
		"--status-listen=127.0.0.1:0",
		"--engine=" + engine,
		"--model=" + model,
		"--max-concurrent=1024",
		"--drain-delay=0s",
	}
	return started(t, launcher, process.Spec{Name: roleGateway, Binary: program, Args: append(args, flags...)})
}

func started(t *testing.T, launcher *process.Launcher, spec process.Spec) *subject {
	t.Helper()
	p, err := launcher.Start(spec)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", spec.Name, p.Tail())
		}
		_ = p.Stop() // it may be gone already
	})
	s := &subject{Process: p, name: spec.Name}
	require.Eventually(t, func() bool {
		require.NoError(t, p.Died())
		s.address, s.pages = loggedAddresses(p.Log())
		return s.address != ""
	}, eventually.Short, eventually.Tick, spec.Name)
	s.url, s.pages = "http://"+s.address, "http://"+cmp.Or(s.pages, s.address)
	return s
}

// loggedAddresses finds where a subject says that it listens, for clients and, where that is another, for its status.
func loggedAddresses(path string) (address, status string) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", ""
	}
	for line := range bytes.Lines(content) {
		var said struct{ Msg, Address, Status string }
		if json.Unmarshal(line, &said) == nil && said.Msg == "Serving" {
			return said.Address, said.Status
		}
	}
	return "", ""
}

// Series of the subjects' metrics pages, as Prometheus' Go collector names them.
const (
	seriesMallocs    = "go_memstats_mallocs_total"
	seriesHeap       = "go_memstats_heap_inuse_bytes"
	seriesGoroutines = "go_goroutines"
)

// cost is what a subject has used up so far, or holds.
type cost struct {
	cpu        time.Duration
	mallocs    float64
	heap       float64 // bytes in use
	goroutines float64
	resident   float64 // bytes
}

func (s *subject) cost(t *testing.T) cost {
	t.Helper()
	res, err := http.Get(s.pages + "/metrics")
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	page, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	series := func(name string) float64 {
		for line := range strings.Lines(string(page)) {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				require.NoError(t, err)
				return number
			}
		}
		require.Fail(t, "no series "+name, s.name)
		return 0
	}
	return cost{
		cpu:        s.cpu(t),
		resident:   s.resident(t),
		mallocs:    series(seriesMallocs),
		heap:       series(seriesHeap),
		goroutines: series(seriesGoroutines),
	}
}

// clockTick is Linux' USER_HZ, in which /proc counts CPU time on every architecture that Go knows.
const clockTick = time.Second / 100

// cpu is the process's time in user and kernel mode.
func (s *subject) cpu(t *testing.T) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID()))
	require.NoError(t, err)
	// The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th field after it.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	var sum int64
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		require.NoError(t, err)
		sum += ticks
	}
	return time.Duration(sum) * clockTick
}

// resident is the process's memory, in bytes.
func (s *subject) resident(t *testing.T) float64 { return s.memory(t, "VmRSS:") }

// peak is the most memory that the process ever had, in bytes.
func (s *subject) peak(t *testing.T) float64 { return s.memory(t, "VmHWM:") }

// memory reads one field of the process's status, in bytes.
func (s *subject) memory(t *testing.T, field string) float64 {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", s.PID()))
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), field); ok {
			kilobytes, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			require.NoError(t, err)
			return kilobytes * 1024
		}
	}
	require.Fail(t, "no "+field, s.name)
	return 0
}
