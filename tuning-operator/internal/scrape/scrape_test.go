// SPDX-License-Identifier: Apache-2.0

package scrape_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/scrape"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = types.NamespacedName{Namespace: "default", Name: "job"}

type pod struct {
	body  atomic.Value
	serve http.HandlerFunc // if set, it answers instead of body
	asked atomic.Int32
	host  string
	port  int
}

func newPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{}
	p.body.Store("")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		assert.Equal(t, "/progress", r.URL.Path)
		if p.serve != nil {
			p.serve(w, r)
			return
		}
		_, _ = w.Write([]byte(p.body.Load().(string)))
	}))
	t.Cleanup(srv.Close)
	host, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	p.host = host
	p.port, err = strconv.Atoi(port)
	require.NoError(t, err)
	return p
}

type fixture struct {
	*scrape.Scraper
	clock *clocktesting.FakeClock
	news  chan types.NamespacedName
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{clock: clocktesting.NewFakeClock(time.Unix(0, 0)), news: make(chan types.NamespacedName, 100)}
	f.Scraper = scrape.New(f.clock, 15*time.Second, func(k types.NamespacedName) { f.news <- k })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Start(ctx) }()
	require.Eventually(t, f.clock.HasWaiters, eventually.Short, eventually.Tick)
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	return f
}

// round advances the clock by one interval and waits for the request to the pod.
func (f *fixture) round(t *testing.T, p *pod) {
	t.Helper()
	before := p.asked.Load()
	f.clock.Step(15 * time.Second)
	require.Eventually(t, func() bool { return p.asked.Load() > before }, eventually.Short, eventually.Tick)
}

func (f *fixture) requireNews(t *testing.T) {
	t.Helper()
	select {
	case k := <-f.news:
		assert.Equal(t, key, k)
	case <-time.After(eventually.Short):
		require.FailNow(t, "no news came")
	}
}

func TestNewLinesNotifyOnce(t *testing.T) {
	p, f := newPod(t), start(t)
	f.Track(key, "uid-1", p.host, p.port)
	p.body.Store(`{"time":"2026-01-01T00:00:00Z","step":"train","train":{"step":5,"totalSteps":10}}`)
	f.round(t, p)
	f.requireNews(t)
	line := f.Latest(key, "uid-1")
	require.NotNil(t, line)
	assert.EqualValues(t, 5, line.Train.Step)

	p.body.Store(`{"time":"2026-01-01T00:00:15Z","step":"train","train":{"step":5,"totalSteps":10}}`)
	f.round(t, p)
	p.body.Store(`{"time":"2026-01-01T00:00:30Z","step":"train","train":{"step":6,"totalSteps":10}}`)
	f.round(t, p)
	f.requireNews(t)
	assert.Empty(t, f.news, "only the time differs")
	assert.EqualValues(t, 6, f.Latest(key, "uid-1").Train.Step)
}

func TestLinesOfOtherPodsAreIgnored(t *testing.T) {
	p, f := newPod(t), start(t)
	p.body.Store(`{"step":"train","train":{"step":5}}`)
	f.Track(key, "uid-1", p.host, p.port)
	f.round(t, p)
	f.requireNews(t)
	assert.Nil(t, f.Latest(key, "uid-2"))
	f.Forget(key)
	assert.Nil(t, f.Latest(key, "uid-1"))
}

func TestInvalidAnswersAreIgnored(t *testing.T) {
	for name, body := range map[string]string{"a page": "<html>", "too much": `{"step":"` + strings.Repeat("x", 100_000) + `"}`} {
		t.Run(name, func(t *testing.T) {
			p, f := newPod(t), start(t)
			p.body.Store(body)
			f.Track(key, "uid-1", p.host, p.port)
			f.round(t, p)
			f.round(t, p) // the first answer is processed before the second request
			assert.Nil(t, f.Latest(key, "uid-1"))
			assert.Empty(t, f.news)
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, code := range []int{
		http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect,
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			var reached atomic.Bool
			inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				reached.Store(true)
				_, _ = w.Write([]byte(`{"step":"train","train":{"step":5}}`))
			}))
			defer inside.Close()
			p, f := newPod(t), start(t)
			p.serve = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside.URL+"/metadata", code) }
			f.Track(key, "uid-1", p.host, p.port)
			f.round(t, p)
			f.round(t, p) // the first answer is processed before the second request
			assert.False(t, reached.Load(), "the pod chose an address for the operator to ask")
			assert.Nil(t, f.Latest(key, "uid-1"))
		})
	}
}

func TestHeadersAreLimited(t *testing.T) {
	p, f := newPod(t), start(t)
	p.serve = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Filler", strings.Repeat("x", 1<<20))
		_, _ = w.Write([]byte(`{"step":"train","train":{"step":5}}`))
	}
	f.Track(key, "uid-1", p.host, p.port)
	f.round(t, p)
	f.round(t, p) // the first answer is processed before the second request
	assert.Nil(t, f.Latest(key, "uid-1"))
}

func TestEndlessAnswerIsLimited(t *testing.T) {
	p, f := newPod(t), start(t)
	left := make(chan struct{})
	p.serve = func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"step":"`))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(left)
	}
	f.Track(key, "uid-1", p.host, p.port)
	f.round(t, p)
	select {
	case <-left:
	case <-time.After(eventually.Long):
		require.FailNow(t, "the operator still waits for the answer")
	}
}

func TestPodWithoutAnAddressIsNotAsked(t *testing.T) {
	f := start(t)
	f.Track(key, "uid-1", "", 9400)
	f.clock.Step(15 * time.Second)
	assert.Nil(t, f.Latest(key, "uid-1"))
}

func TestZeroIntervalSendsNoRequests(t *testing.T) {
	s := scrape.New(clocktesting.NewFakeClock(time.Unix(0, 0)), 0, func(types.NamespacedName) {})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	assert.NoError(t, s.Start(ctx))
}
