// SPDX-License-Identifier: Apache-2.0

package ranks_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
	"kaito.sh/workspace-operator/internal/ranks"
)

// server is an engine of several ranks, whose processes write their numbers into a folder.
type server struct {
	folder string
	nodes  int
	port   int
	// silence is after what time without a sign of life a rank is lost.
	silence time.Duration
}

func newServer(t *testing.T, nodes int) *server {
	t.Helper()
	ports, err := process.FreePorts(1)
	require.NoError(t, err)
	return &server{folder: t.TempDir(), nodes: nodes, port: ports[0], silence: eventually.Long}
}

// engine writes the process' number, with its arguments, and runs until a signal ends it.
const engine = `echo "$$ $*" > "$0.new"; mv "$0.new" "$0"; sleep 1000 & echo $! > "$0.worker"; wait`

func (s *server) config(rank int) ranks.Config {
	c := ranks.DefaultConfig()
	c.Nodes, c.Rank, c.Leader, c.Port = s.nodes, rank, "127.0.0.1", s.port
	c.Command, c.FollowerArgs = []string{"sh", "-c", engine, s.file(rank)}, []string{"--headless"}
	c.TerminationLog = s.file(rank) + ".log"
	c.Beat, c.Silence, c.Retry = 20*time.Millisecond, s.silence, 20*time.Millisecond
	return c
}

func (s *server) file(rank int) string { return filepath.Join(s.folder, strconv.Itoa(rank)) }

// started returns the number of a rank's engine and its arguments; 0 where it has not started.
func (s *server) started(rank int) (pid int, args string) {
	text, err := os.ReadFile(s.file(rank))
	if err != nil {
		return 0, ""
	}
	number, args, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	pid, _ = strconv.Atoi(number)
	return pid, args
}

// end is how a supervisor ended.
type end struct {
	code int
	err  error
}

func (s *server) run(t *testing.T, ctx context.Context, c ranks.Config) <-chan end {
	t.Helper()
	ended := make(chan end, 1)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil)).With("rank", c.Rank)
	done := make(chan struct{})
	go func() {
		defer close(done)
		code, err := ranks.Run(ctx, c, logger)
		ended <- end{code, err}
	}()
	t.Cleanup(func() { <-done })
	return ended
}

func wait(t *testing.T, ended <-chan end) end {
	t.Helper()
	select {
	case e := <-ended:
		return e
	case <-time.After(eventually.Long):
		require.Fail(t, "the supervisor has not ended")
		return end{}
	}
}

func (s *server) awaitEngines(t *testing.T, numbers ...int) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		for _, rank := range numbers {
			pid, _ := s.started(rank)
			assert.NotZero(c, pid, "rank %d", rank)
		}
	}, eventually.Long, eventually.Tick)
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestAllRanksEndWithTheFirstThatEnds(t *testing.T) {
	for victim := range 3 {
		t.Run(fmt.Sprintf("rank %d", victim), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			s := newServer(t, 3)
			var ended []<-chan end
			// The leader comes last: followers wait for it.
			for _, rank := range []int{2, 1, 0} {
				ended = append([]<-chan end{s.run(t, ctx, s.config(rank))}, ended...)
			}
			s.awaitEngines(t, 0, 1, 2)
			var pids []int
			for rank := range 3 {
				pid, args := s.started(rank)
				pids = append(pids, pid)
				assert.Equal(t, rank > 0, args == "--headless", "rank %d has %q", rank, args)
			}
			require.NoError(t, syscall.Kill(pids[victim], syscall.SIGKILL))
			for rank := range 3 {
				got := wait(t, ended[rank])
				require.NoError(t, got.err)
				want := ranks.ExitPeerEnded
				if rank == victim {
					want = 128 + int(syscall.SIGKILL)
				}
				assert.Equal(t, want, got.code, "rank %d", rank)
				assert.False(t, alive(pids[rank]), "rank %d", rank)
				text, _ := os.ReadFile(s.file(rank) + ".log")
				assert.Equal(t, rank != victim, strings.Contains(string(text), "All ranks of a server start again together"),
					"rank %d: %s", rank, text)
			}
			// A second start of all finds the port free.
			again := newServer(t, 3)
			again.port = s.port
			for rank := range 3 {
				again.run(t, ctx, again.config(rank))
			}
			again.awaitEngines(t, 0, 1, 2)
		})
	}
}

func TestWorkersEndWithTheirEngine(t *testing.T) {
	s := newServer(t, 2)
	first := s.run(t, t.Context(), s.config(0))
	second := s.run(t, t.Context(), s.config(1))
	s.awaitEngines(t, 0, 1)
	worker := func(rank int) int {
		var pid int
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			text, err := os.ReadFile(s.file(rank) + ".worker")
			require.NoError(c, err)
			_, err = fmt.Sscan(string(text), &pid)
			require.NoError(c, err)
		}, eventually.Long, eventually.Tick)
		return pid
	}
	workers := []int{worker(0), worker(1)}
	pid, _ := s.started(0)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	wait(t, first)
	wait(t, second)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		for _, pid := range workers {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil {
				assert.Contains(c, string(state), ") Z ", "it is not killed") // its parent is gone, and does not wait for it
			}
		}
	}, eventually.Long, eventually.Tick)
}

func TestSIGTERMReachesTheEngineAlone(t *testing.T) {
	s := newServer(t, 2)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	leader, follower := s.config(0), s.config(1)
	leader.Command[2] = `trap 'exit 42' TERM; ` + engine
	ended := s.run(t, ctx, leader)
	others := s.run(t, t.Context(), follower)
	s.awaitEngines(t, 0, 1)
	stop()
	assert.Equal(t, end{code: 42}, wait(t, ended))
	assert.Equal(t, ranks.ExitPeerEnded, wait(t, others).code)
}

// rank is a follower that a test plays.
type rank struct {
	conn  net.Conn
	lines *bufio.Reader
}

func (s *server) dial(t *testing.T, hello string) *rank {
	t.Helper()
	var conn net.Conn
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var err error
		conn, err = net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
		require.NoError(c, err)
	}, eventually.Long, eventually.Tick)
	t.Cleanup(func() { _ = conn.Close() })
	_, err := fmt.Fprintln(conn, hello)
	require.NoError(t, err)
	return &rank{conn, bufio.NewReader(conn)}
}

// next returns the next line that is more than a sign of life; empty at the end.
func (r *rank) next() string {
	for {
		line, err := r.lines.ReadString('\n')
		if text := strings.TrimSpace(line); text != "" || err != nil {
			return text
		}
	}
}

func TestTheEngineStartsWhenTheLastRankIsThere(t *testing.T) {
	s := newServer(t, 3)
	ended := s.run(t, t.Context(), s.config(0))
	first := s.dial(t, "kaito-ranks/1 rank=1 nodes=3")
	// What else connects is refused, and the leader still waits.
	for hello, answer := range map[string]string{
		"GET / HTTP/1.1":               `refused "GET / HTTP/1.1" is not the first line of a rank`,
		"kaito-ranks/1 rank=0 nodes=3": "refused rank 0 of 3 is not one of the 3 ranks of this server",
		"kaito-ranks/1 rank=1 nodes=2": "refused rank 1 of 2 is not one of the 3 ranks of this server",
		"kaito-ranks/2 rank=1 nodes=3": `refused "kaito-ranks/2 rank=1 nodes=3" is not the first line of a rank`,
		strings.Repeat("x", 4096):      "",
	} {
		assert.Equal(t, answer, s.dial(t, hello).next())
	}
	// The same rank again, before the start: its new connection counts.
	second := s.dial(t, "kaito-ranks/1 rank=1 nodes=3")
	assert.Empty(t, first.next(), "the old connection is closed")
	pid, _ := s.started(0)
	assert.Zero(t, pid, "rank 2 is missing")
	third := s.dial(t, "kaito-ranks/1 rank=2 nodes=3")
	assert.Equal(t, "start", second.next())
	assert.Equal(t, "start", third.next())
	s.awaitEngines(t, 0)

	s.dial(t, "kaito-ranks/1 rank=2 nodes=3")
	assert.Equal(t, ranks.ExitPeerEnded, wait(t, ended).code, "rank 2 was started again")
	text, err := os.ReadFile(s.file(0) + ".log")
	require.NoError(t, err)
	assert.Contains(t, string(text), "rank 2 was started again")
}

func TestASilentRankIsLost(t *testing.T) {
	s := newServer(t, 2)
	s.silence = 200 * time.Millisecond
	ended := s.run(t, t.Context(), s.config(0))
	follower := s.dial(t, "kaito-ranks/1 rank=1 nodes=2")
	require.Equal(t, "start", follower.next())
	assert.Equal(t, ranks.ExitPeerEnded, wait(t, ended).code)
	text, err := os.ReadFile(s.file(0) + ".log")
	require.NoError(t, err)
	assert.Contains(t, string(text), "rank 1: no sign of life for 200ms")
}

func TestAFollowerWaitsForALeaderThatIsGoneBeforeTheStart(t *testing.T) {
	s := newServer(t, 2)
	ended := s.run(t, t.Context(), s.config(1))
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	require.NoError(t, err)
	conn, err := listener.Accept()
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "kaito-ranks/1 rank=1 nodes=2\n", line)
	require.NoError(t, conn.Close())
	require.NoError(t, listener.Close())
	leader := s.run(t, t.Context(), s.config(0))
	s.awaitEngines(t, 0, 1)
	pid, _ := s.started(1)
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	assert.Equal(t, 128+int(syscall.SIGTERM), wait(t, ended).code)
	assert.Equal(t, ranks.ExitPeerEnded, wait(t, leader).code)
}

func TestAProgramThatDoesNotExistIsNamed(t *testing.T) {
	s := newServer(t, 2)
	c := s.config(0)
	c.Command = []string{"/no/such/engine"}
	ended := s.run(t, t.Context(), c)
	s.dial(t, "kaito-ranks/1 rank=1 nodes=2")
	got := wait(t, ended)
	assert.Equal(t, ranks.ExitNotStarted, got.code)
	assert.ErrorContains(t, got.err, "the engine cannot be started: fork/exec /no/such/engine: no such file or directory")
}

func TestStoppingWhileWaiting(t *testing.T) {
	for number := range 2 {
		ctx, stop := context.WithCancel(t.Context())
		s := newServer(t, 2)
		ended := s.run(t, ctx, s.config(number))
		stop()
		assert.Equal(t, end{code: 128 + int(syscall.SIGTERM)}, wait(t, ended), "rank %d", number)
	}
}

func TestWrongConfigurationsAreNamed(t *testing.T) {
	_, err := ranks.Run(t.Context(), ranks.Config{Nodes: 1, Rank: 3, Port: 70000}, slog.New(slog.DiscardHandler))
	assert.EqualError(t, err, `--nodes is "1": give the number of ranks, at least 2
--rank is "3": give a number from 0 to 0
--leader is "": give the host name of rank 0
--port is "70000": give a TCP port
--silence is "0s": give more than --beat, which is 0s
no command: give the engine's program and its arguments after --`)
}
