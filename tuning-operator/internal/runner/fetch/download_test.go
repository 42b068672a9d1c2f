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
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

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
