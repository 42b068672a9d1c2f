// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"bytes"
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/runner/fetch"
)

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
