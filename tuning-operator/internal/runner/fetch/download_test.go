// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/fetch"
	"kaito.sh/tuning-operator/internal/runner/netguard"
	"kaito.sh/tuning-operator/internal/runner/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// origin serves one file with scripted faults, and counts the requests.
type origin struct {
	mu       sync.Mutex
	body     []byte
	etag     string
	noRanges bool
	// script is called first. It returns true if it has answered.
	script   func(n int, w http.ResponseWriter, r *http.Request) bool
	requests int
	sent     int64
	peak     int
	inFlight int
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	n := o.requests
	o.requests++
	o.inFlight++
	o.peak = max(o.peak, o.inFlight)
	body, etag, script, noRanges := o.body, o.etag, o.script, o.noRanges
	o.mu.Unlock()
	defer func() { o.mu.Lock(); o.inFlight--; o.mu.Unlock() }()
	if script != nil && script(n, w, r) {
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	cw := &counting{ResponseWriter: w, o: o}
	if noRanges {
		_, _ = cw.Write(body)
		return
	}
	http.ServeContent(cw, r, "", time.Time{}, bytes.NewReader(body))
}

func (o *origin) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

type counting struct {
	http.ResponseWriter
	o *origin
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.o.mu.Lock()
	c.o.sent += int64(n)
	c.o.mu.Unlock()
	return n, err
}

func content(size int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, size)
	_, _ = r.Read(b)
	return b
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// fast retries without pauses. Tests of the pauses use a fake clock.
var fast = wait.Backoff{Steps: 3}

type setup struct {
	*fetch.Downloader
	origin *origin
	url    string
	path   string
	out    *bytes.Buffer
}

func newSetup(t *testing.T, o *origin) *setup {
	t.Helper()
	srv := httptest.NewTLSServer(o)
	t.Cleanup(srv.Close)
	out := &bytes.Buffer{}
	client := srv.Client()
	client.CheckRedirect = netguard.CheckRedirect
	d := &fetch.Downloader{
		Client: client, Clock: clock.RealClock{}, Progress: progress.New("fetch", out, clock.RealClock{}),
		Backoff: fast, Parallel: 4, PartSize: 10_000,
	}
	return &setup{
		Downloader: d,
		origin:     o,
		url:        srv.URL + "/data.bin?download=true",
		path:       filepath.Join(t.TempDir(), "data.bin"),
		out:        out,
	}
}

func (s *setup) assertFile(t *testing.T, want []byte) {
	t.Helper()
	got, err := os.ReadFile(s.path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got), "the file's bytes")
	left, err := filepath.Glob(s.path + ".part*")
	require.NoError(t, err)
	assert.Empty(t, left, "nothing of the download is left behind")
}

func TestGetInParallelRanges(t *testing.T) {
	var gate sync.WaitGroup
	gate.Add(4)
	o := &origin{body: content(95_001), etag: `"v1"`}
	o.script = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
		if n >= 1 && n <= 4 { // the first four parts wait for each other: they complete only if they are concurrent
			gate.Done()
			gate.Wait()
		}
		return false
	}
	s := newSetup(t, o)
	size, sum, err := s.Get(
		context.Background(), fetch.File{URL: s.url, Path: s.path, SHA256: hexSum(o.body), Size: 95_001},
	)
	require.NoError(t, err)
	assert.EqualValues(t, 95_001, size)
	assert.Equal(t, hexSum(o.body), sum)
	assert.Equal(t, 1+10, o.requests, "the probe and ten parts")
	assert.Equal(t, 4, o.peak)
	s.assertFile(t, o.body)
}

func TestGetSizes(t *testing.T) {
	for _, size := range []int{0, 1, 9_999, 10_000, 10_001, 20_000} {
		for _, noRanges := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, no ranges %t", size, noRanges), func(t *testing.T) {
				o := &origin{body: content(size), noRanges: noRanges}
				s := newSetup(t, o)
				_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
				require.NoError(t, err)
				s.assertFile(t, o.body)
			})
		}
	}
}

// cutAfter sends the beginning of the part and closes the connection.
func cutAfter(o *origin, w http.ResponseWriter, r *http.Request, bytesOfPart int) bool {
	var from, to int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil || to-from < bytesOfPart {
		return false
	}
	w.Header().Set("ETag", o.etag)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(o.body)))
	w.Header().Set("Content-Length", fmt.Sprint(to-from+1))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(o.body[from : from+bytesOfPart])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func TestInterruptedPartResumesAtItsByte(t *testing.T) {
	o := &origin{body: content(10_000), etag: `"v1"`}
	var ranges []string
	o.script = func(n int, w http.ResponseWriter, r *http.Request) bool {
		ranges = append(ranges, r.Header.Get("Range"))
		return n == 1 && cutAfter(o, w, r, 4_000)
	}
	s := newSetup(t, o)
	_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
	require.NoError(t, err)
	assert.Equal(t, []string{"bytes=0-0", "bytes=0-9999", "bytes=4000-9999"}, ranges)
	s.assertFile(t, o.body)
}

func TestDownloadSurvivesManyInterruptions(t *testing.T) {
	o := &origin{body: content(10_000), etag: `"v1"`}
	o.script = func(n int, w http.ResponseWriter, r *http.Request) bool { return n > 0 && cutAfter(o, w, r, 500) }
	s := newSetup(t, o) // three attempts, and nineteen interruptions
	_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
	require.NoError(t, err)
	s.assertFile(t, o.body)
}

func TestNextProcessKeepsCompleteParts(t *testing.T) {
	o := &origin{body: content(100_000), etag: `"v1"`}
	o.script = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n > 1 {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return n == 1 && cutAfter(o, w, r, 90_500) // one request for all: the received parts are complete
	}
	s := newSetup(t, o)
	s.Parallel = 1
	_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
	require.Error(t, err)

	o.set(func() { o.script, o.requests, o.sent = nil, 0, 0 })
	again := newSetup(t, o)
	again.path = s.path
	_, _, err = again.Get(context.Background(), fetch.File{URL: again.url, Path: s.path})
	require.NoError(t, err)
	// The server counts after it has written, so that the client may be faster.
	assert.Eventually(t, func() (all bool) {
		o.set(func() { all = o.sent == 10_001 })
		return all
	}, eventually.Short, eventually.Tick, "the probe's byte and the one part that was missing")
	again.assertFile(t, o.body)
}

func TestChangedFileIsNotMixed(t *testing.T) {
	old, fresh := content(50_000), bytes.Repeat([]byte("new!"), 12_500)
	t.Run("during the download", func(t *testing.T) {
		o := &origin{body: old, etag: `"v1"`}
		o.script = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
			if n == 3 {
				o.mu.Lock()
				o.body, o.etag = fresh, `"v2"`
				o.mu.Unlock()
			}
			return false
		}
		s := newSetup(t, o)
		s.Parallel = 2
		_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
		require.NoError(t, err)
		s.assertFile(t, fresh)
	})
	t.Run("between two runs", func(t *testing.T) {
		o := &origin{body: old, etag: `"v1"`}
		o.script = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n > 3 {
				w.WriteHeader(http.StatusNotFound)
			}
			return n > 3
		}
		s := newSetup(t, o)
		s.Parallel = 2
		_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
		require.Error(t, err)
		o.set(func() { o.script, o.body, o.etag = nil, fresh, `"v2"` })
		_, _, err = s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
		require.NoError(t, err)
		s.assertFile(t, fresh)
	})
}

func TestGetRefusals(t *testing.T) {
	body := content(30_000)
	answer := func(status int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
	}
	for name, c := range map[string]struct {
		origin    *origin
		file      fetch.File
		budget    int64
		url       string
		reason    string
		permanent bool
		requests  int
		says      string
	}{
		"a wrong checksum": {origin: &origin{body: body}, file: fetch.File{SHA256: strings.Repeat("0", 64)},
			reason: tuningv1alpha1.ReasonChecksumMismatch, permanent: true, requests: 4, says: hexSum(body)},
		"a size that differs from the index": {origin: &origin{body: body}, file: fetch.File{Size: 29_999},
			reason: tuningv1alpha1.ReasonChecksumMismatch, permanent: true, requests: 1, says: "29999"},
		"more bytes than allowed": {origin: &origin{body: body}, budget: 29_999,
			reason: tuningv1alpha1.ReasonSourceTooLarge, permanent: true, requests: 1, says: "--max-bytes"},
		"more bytes than allowed, of unknown size": {origin: &origin{script: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusOK)
			for range 30 {
				_, _ = w.Write(body[:1000])
				_ = http.NewResponseController(w).Flush()
			}
			return true
		}}, budget: 10_000, reason: tuningv1alpha1.ReasonSourceTooLarge, permanent: true, requests: 2, says: "--max-bytes"},
		"not found":               {origin: &origin{script: answer(404)}, reason: tuningv1alpha1.ReasonSourceNotFound, permanent: true, requests: 1, says: "404"},
		"gated":                   {origin: &origin{script: answer(403)}, reason: tuningv1alpha1.ReasonSourceDenied, permanent: true, requests: 1, says: "licence"},
		"unavailable three times": {origin: &origin{script: answer(503)}, reason: tuningv1alpha1.ReasonSourceUnavailable, requests: 3, says: "503"},
		"plain http":              {origin: &origin{}, url: "http://example.com/x", reason: tuningv1alpha1.ReasonSourceInvalid, permanent: true, says: "https"},
		"a file on this machine":  {origin: &origin{}, url: "file:///etc/passwd", reason: tuningv1alpha1.ReasonSourceInvalid, permanent: true, says: "https"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, c.origin)
			if c.budget > 0 {
				s.Budget = disk.NewBudget(c.budget)
			}
			c.file.URL, c.file.Path = s.url, s.path
			if c.url != "" {
				c.file.URL = c.url
			}
			_, _, err := s.Get(context.Background(), c.file)
			require.Error(t, err)
			f := fault.Of(err, "Unsorted")
			assert.Equal(t, c.reason, f.Reason)
			assert.Equal(t, c.permanent, f.Permanent)
			assert.Equal(t, c.requests, c.origin.requests)
			assert.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), "download=true", "a query may carry a signature")
			assert.NoFileExists(t, s.path)
		})
	}
}

func TestLoopbackIsRefusedAtTheDialAndNotRetried(t *testing.T) {
	o := &origin{body: content(10)}
	s := newSetup(t, o)
	guarded := &http.Client{Transport: netguard.Policy{}.Transport(), CheckRedirect: netguard.CheckRedirect}
	s.Client = guarded
	_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
	require.Error(t, err)
	f := fault.Of(err, "Unsorted")
	assert.Equal(t, tuningv1alpha1.ReasonSourceForbidden, f.Reason)
	assert.True(t, f.Permanent)
	assert.Zero(t, o.requests)
}

func TestRetryAfterIsObeyed(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		status int
		after  string
	}{
		"in seconds": {http.StatusTooManyRequests, "40"},
		"a date":     {http.StatusServiceUnavailable, now.Add(40 * time.Second).Format(http.TimeFormat)},
	} {
		t.Run(name, func(t *testing.T) {
			o := &origin{body: content(10)}
			o.script = func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if n == 0 {
					w.Header().Set("Retry-After", c.after)
					w.WriteHeader(c.status)
				}
				return n == 0
			}
			s := newSetup(t, o)
			clk := clocktesting.NewFakeClock(now)
			s.Clock = clk
			done := make(chan error, 1)
			go func() {
				_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
				done <- err
			}()
			require.Eventually(t, clk.HasWaiters, eventually.Short, eventually.Tick)
			clk.Step(39 * time.Second)
			assert.True(t, clk.HasWaiters(), "39 of 40 seconds are not enough")
			clk.Step(time.Second)
			require.NoError(t, <-done)
			s.assertFile(t, o.body)
		})
	}
}

func TestCancelKeepsThePartsAndLeavesNoGoroutine(t *testing.T) {
	o := &origin{body: content(50_000), etag: `"v1"`}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.script = func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n == 3 {
			cancel()
			<-r.Context().Done()
		}
		return false
	}
	s := newSetup(t, o)
	s.Parallel = 2
	_, _, err := s.Get(ctx, fetch.File{URL: s.url, Path: s.path})
	require.ErrorIs(t, err, context.Canceled)
	assert.FileExists(t, s.path+".part")
	assert.FileExists(t, s.path+".part.json")
}

func TestTokenIsSentToItsHostOnly(t *testing.T) {
	var atStore, atHub []string
	body := content(100)
	store := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		atStore = append(atStore, r.Header.Get("Authorization"))
		_, _ = w.Write(body)
	}))
	t.Cleanup(store.Close)
	o := &origin{script: func(_ int, w http.ResponseWriter, r *http.Request) bool {
		atHub = append(atHub, r.Header.Get("Authorization"))
		http.Redirect(w, r, store.URL+"/blob", http.StatusFound)
		return true
	}}
	s := newSetup(t, o)
	s.Client.Transport = store.Client().Transport.(*http.Transport).Clone() // of both servers
	defer s.Client.CloseIdleConnections()
	_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path, Token: "hf_secret"})
	require.NoError(t, err)
	assert.Equal(t, []string{"Bearer hf_secret", "Bearer hf_secret"}, atHub)
	assert.Equal(t, []string{"", ""}, atStore)
	assert.NotContains(t, s.out.String(), "hf_secret")
	got, err := os.ReadFile(s.path)
	require.NoError(t, err)
	assert.Equal(t, body, got)
}

func TestProgressReachesAHundredPercent(t *testing.T) {
	o := &origin{body: content(64_000), etag: `"v1"`}
	s := newSetup(t, o)
	_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
	require.NoError(t, err)
	last := s.Progress.Latest()
	assert.EqualValues(t, 64_000, last.Bytes)
	assert.EqualValues(t, 64_000, last.TotalBytes)
	assert.InDelta(t, 100, last.Percent, 0)
}
