// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testingclock "k8s.io/utils/clock/testing"

	"kaito.sh/shared/test/eventually"
)

// serving is a gateway that Serve runs, in front of an engine that streams one chunk a token of more.
type serving struct {
	url   string
	pages string // the URL of the status port
	clock *testingclock.FakeClock
	more  chan string
	stop  context.CancelFunc
	done  chan error
	// engineLeft is closed when the engine sees its client leave.
	engineLeft chan struct{}
}

func serve(t *testing.T, change func(*Config)) *serving {
	t.Helper()
	s := &serving{
		clock:      testingclock.NewFakeClock(epoch),
		more:       make(chan string),
		done:       make(chan error, 1),
		engineLeft: make(chan struct{}),
	}
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/completions" {
			healthy(listed)(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for {
			select {
			case chunk, open := <-s.more:
				if !open {
					return
				}
				_, _ = io.WriteString(w, chunk)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				close(s.engineLeft)
				return
			}
		}
	}))
	t.Cleanup(engine.Close)
	cfg := DefaultConfig()
	cfg.Engine, cfg.Model = engine.URL, servedModel
	change(&cfg)
	g, err := New(cfg, Options{Clock: s.clock})
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	pages, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.url, s.pages = "http://"+ln.Addr().String(), "http://"+pages.Addr().String()
	var ctx context.Context
	ctx, s.stop = context.WithCancel(t.Context())
	t.Cleanup(s.stop)
	go func() { s.done <- g.Serve(ctx, ln, pages) }()
	return s
}

// status returns the answer's status, on a connection of its own, and whether the gateway asked to close it.
func (s *serving) status(t *testing.T, path string) (int, bool) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	url := s.url
	if slices.Contains(statusPaths, path) {
		url = s.pages
	}
	res, err := client.Get(url + path)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, res.Body)
	require.NoError(t, res.Body.Close())
	return res.StatusCode, res.Close
}

// stream opens a stream and reads its first chunk.
func (s *serving) stream(t *testing.T) *bufio.Reader {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	res, err := client.Post(s.url+"/v1/completions", "application/json", nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = res.Body.Close()
		client.CloseIdleConnections()
	})
	s.more <- "a\n"
	lines := bufio.NewReader(res.Body)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "a\n", line)
	return lines
}

func TestAStopDrainsInOrder(t *testing.T) {
	s := serve(t, func(*Config) {})
	status, _ := s.status(t, "/readyz")
	require.Equal(t, http.StatusOK, status)
	lines := s.stream(t)

	s.stop()
	until(
		t, "not ready", func() bool { status, _ := s.status(t, "/readyz"); return status == http.StatusServiceUnavailable },
	)
	status, asked := s.status(t, "/v1/models")
	assert.Equal(t, http.StatusOK, status, "whom the cluster still sends is answered")
	assert.True(t, asked, "and asked to come back on another connection")
	status, _ = s.status(t, "/healthz")
	assert.Equal(t, http.StatusOK, status, "a draining gateway is not to be restarted")

	s.clock.Step(DefaultConfig().DrainDelay)
	until(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", s.url[len("http://"):])
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	s.more <- "b\n"
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "b\n", line, "running streams continue")
	select {
	case err := <-s.done:
		t.Fatalf("stopped before the stream ended: %v", err)
	default:
	}
	close(s.more)
	_, err = lines.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	select {
	case err := <-s.done:
		require.NoError(t, err)
	case <-time.After(eventually.Short):
		t.Fatal("the drain does not end with the last request")
	}
}

func TestWhatOutlastsTheDrainIsCutOff(t *testing.T) {
	s := serve(t, func(c *Config) { c.DrainDelay, c.DrainTimeout = time.Millisecond, 200*time.Millisecond })
	lines := s.stream(t)
	s.stop()
	until(
		t, "not ready", func() bool { status, _ := s.status(t, "/readyz"); return status == http.StatusServiceUnavailable },
	)
	s.clock.Step(time.Millisecond)
	select {
	case err := <-s.done:
		require.ErrorIs(t, err, ErrDrainIncomplete)
	case <-time.After(eventually.Short):
		t.Fatal("a stream holds the exit up")
	}
	_, err := io.ReadAll(lines)
	require.Error(t, err, "a stream that was cut off does not look whole")
	select {
	case <-s.engineLeft:
	case <-time.After(eventually.Short):
		t.Fatal("the engine continues without a client")
	}
}

func TestAListenerThatFailsEndsServe(t *testing.T) {
	for failing := range 2 {
		cfg := DefaultConfig()
		cfg.Model = servedModel
		g, err := New(cfg, Options{})
		require.NoError(t, err)
		var both [2]net.Listener
		for i := range both {
			both[i], err = net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
		}
		require.NoError(t, both[failing].Close())
		require.ErrorContains(t, g.Serve(t.Context(), both[0], both[1]), "serving on "+both[failing].Addr().String())
		_, err = both[1-failing].Accept()
		require.ErrorIs(t, err, net.ErrClosed, "the other one is closed, too")
	}
}

// hook asks /drained as the kubelet does, and reports the answer's status, or 0.
func (s *serving) hook() <-chan int {
	out := make(chan int, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		res, err := client.Get(s.pages + "/drained")
		if err != nil {
			out <- 0
			return
		}
		_ = res.Body.Close()
		out <- res.StatusCode
	}()
	return out
}

func TestTheEnginesHookWaitsForTheLastStream(t *testing.T) {
	s := serve(t, func(*Config) {})
	lines := s.stream(t)
	early := s.hook() // the kubelet stops both containers at once: the hook may come first
	until(t, "the hook waits", s.clock.HasWaiters)
	s.stop()
	until(
		t, "not ready", func() bool { status, _ := s.status(t, "/readyz"); return status == http.StatusServiceUnavailable },
	)
	waiting := s.clock.Waiters()
	late := s.hook()
	until(t, "the late hook waits", func() bool { return s.clock.Waiters() > waiting })
	s.clock.Step(DefaultConfig().DrainDelay)
	s.more <- "b\n"
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "b\n", line)
	for _, hook := range []<-chan int{early, late} {
		select {
		case status := <-hook:
			require.Fail(t, "the engine would be stopped in the middle of a stream", status)
		default:
		}
	}
	close(s.more)
	_, err = lines.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	for _, hook := range []<-chan int{early, late} {
		select {
		case status := <-hook:
			assert.Equal(t, http.StatusOK, status)
		case <-time.After(eventually.Short):
			require.Fail(t, "the engine is kept when nothing runs")
		}
	}
	require.NoError(t, <-s.done)
}

func TestTheHookDoesNotHoldARestartOfTheEngine(t *testing.T) {
	s := serve(t, func(*Config) {})
	hook := s.hook()
	until(t, "the hook waits", s.clock.HasWaiters)
	s.clock.Step(DefaultConfig().DrainDelay)
	select {
	case status := <-hook:
		assert.Equal(t, http.StatusOK, status)
	case <-time.After(eventually.Short):
		require.Fail(t, "no stop has begun, and the hook waits on")
	}
	s.stop()
	until(t, "the drain begins", s.clock.HasWaiters)
	s.clock.Step(DefaultConfig().DrainDelay)
	require.NoError(t, <-s.done)
}
