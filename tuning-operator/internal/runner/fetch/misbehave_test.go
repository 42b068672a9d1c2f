// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/fetch"
	"kaito.sh/tuning-operator/internal/runner/netguard"
)

// asked returns the range of a request, or false if it has none.
func asked(r *http.Request) (from, to int, ok bool) {
	_, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
	return from, to, err == nil
}

// partial answers with a range that differs from its header.
func partial(w http.ResponseWriter, contentRange string, body []byte) bool {
	w.Header().Set("ETag", `"v1"`)
	if contentRange != "" {
		w.Header().Set("Content-Range", contentRange)
	}
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(body)
	return true
}

// TestMisbehavingServers checks that the file is complete, or absent with a reason.
func TestMisbehavingServers(t *testing.T) {
	body := content(45_000)
	total := len(body)
	var known sync.Map                                            // requests by first byte
	type server func(n, from, to int, w http.ResponseWriter) bool // for requests after the probe
	for name, c := range map[string]struct {
		script server
		reason string // "" if the file arrives
	}{
		"announces and sends less than the range": {script: func(_, from, to int, w http.ResponseWriter) bool {
			end := min(from+3_000, to)
			return partial(w, fmt.Sprintf("bytes %d-%d/%d", from, end, total), body[from:end+1])
		}},
		"sends more than the range": {script: func(_, from, to int, w http.ResponseWriter) bool {
			return partial(w, fmt.Sprintf("bytes %d-%d/%d", from, to, total), body[from:min(to+500, total)])
		}},
		"announces more than it sends": {script: func(n, from, to int, w http.ResponseWriter) bool {
			if n > 3 {
				return false
			}
			w.Header().Set("Content-Length", fmt.Sprint(to-from+1+100))
			return partial(w, fmt.Sprintf("bytes %d-%d/%d", from, to, total), body[from:to])
		}},
		"announces less than the range": {script: func(n, from, to int, w http.ResponseWriter) bool {
			w.Header().Set("Content-Length", fmt.Sprint((to-from)/2+1))
			return partial(w, fmt.Sprintf("bytes %d-%d/%d", from, to, total), body[from:from+(to-from)/2+1])
		}},
		"sends another range": {reason: "Unsorted", script: func(_, from, to int, w http.ResponseWriter) bool {
			return partial(w, fmt.Sprintf("bytes %d-%d/%d", from+1, to, total), body[from+1:to+1])
		}},
		"omits the range": {reason: "Unsorted", script: func(_, from, to int, w http.ResponseWriter) bool {
			return partial(w, "", body[from:to+1])
		}},
		"sends an invalid range": {reason: "Unsorted", script: func(_, from, to int, w http.ResponseWriter) bool {
			return partial(w, "bytes 9-3/-1", body[from:to+1])
		}},
		"changes the size each time": {script: func(n, from, to int, w http.ResponseWriter) bool {
			return partial(w, fmt.Sprintf("bytes %d-%d/%d", from, to, total+n), body[from:to+1])
		}},
		"has ranges for the first byte only": {script: func(_, _, _ int, w http.ResponseWriter) bool {
			_, _ = w.Write(body)
			return true
		}},
		"fails for the first range": {script: func(n, from, _ int, w http.ResponseWriter) bool {
			if _, again := known.LoadOrStore(from, true); again {
				return false
			}
			w.WriteHeader([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway}[n%3])
			return true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := &origin{body: body, etag: `"v1"`}
			o.script = func(n int, w http.ResponseWriter, r *http.Request) bool {
				from, to, ok := asked(r)
				return ok && to > 0 && c.script(n, from, to, w)
			}
			s := newSetup(t, o)
			size, sum, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
			if c.reason == "" {
				require.NoError(t, err)
				assert.EqualValues(t, total, size)
				assert.Equal(t, hexSum(body), sum)
				s.assertFile(t, body)
				return
			}
			require.Error(t, err)
			assert.False(t, fault.Of(err, c.reason).Permanent, "the next attempt may meet another server")
			assert.NoFileExists(t, s.path)
		})
	}
}

func TestServerWithoutRangesIsAskedFromTheStart(t *testing.T) {
	body := content(45_000)
	for name, announced := range map[string]bool{"with a length": true, "without a length": false} {
		t.Run(name, func(t *testing.T) {
			o := &origin{body: body, noRanges: true}
			o.script = func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if announced {
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				}
				if n == 1 || n == 2 {
					_, _ = w.Write(body[:20_000*n])
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
				for _, piece := range [][]byte{body[:10_000], body[10_000:]} { // flushed: no length is announced
					_, _ = w.Write(piece)
					_ = http.NewResponseController(w).Flush()
				}
				return true
			}
			s := newSetup(t, o)
			s.Budget = disk.NewBudget(int64(len(body))) // interrupted bytes do not count twice
			_, sum, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
			require.NoError(t, err)
			assert.Equal(t, hexSum(body), sum)
			s.assertFile(t, body)
			assert.EqualValues(t, len(body), s.Progress.Latest().Bytes)
		})
	}
}

func TestRedirectToAPrivateAddressIsNotRetried(t *testing.T) {
	for _, where := range []string{"https://10.1.2.3/x", "https://192.168.0.1:8443/x", "https://[fd00::1]/x", "https://100.64.0.1/x", "https://[::ffff:10.0.0.1]/x"} {
		t.Run(where, func(t *testing.T) {
			o := &origin{script: func(_ int, w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, where, http.StatusFound)
				return true
			}}
			s := newSetup(t, o)
			// The server of this test is on loopback, which must be allowed. Private addresses are not.
			guarded := netguard.Policy{AllowLocal: true}.Transport()
			guarded.TLSClientConfig = s.Client.Transport.(*http.Transport).TLSClientConfig
			s.Client = &http.Client{Transport: guarded, CheckRedirect: netguard.CheckRedirect}
			defer s.Client.CloseIdleConnections()
			_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
			require.Error(t, err)
			f := fault.Of(err, "Unsorted")
			assert.Equal(t, tuningv1alpha1.ReasonSourceForbidden, f.Reason)
			assert.True(t, f.Permanent)
			assert.Equal(t, 1, o.requests)
			assert.NoFileExists(t, s.path)
		})
	}
}

func TestFullDiskIsReportedAndLeavesNoFile(t *testing.T) {
	small := filepath.Join(t.TempDir(), "small")
	require.NoError(t, os.Mkdir(small, 0o755))
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("a small disk cannot be mounted: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(small, syscall.MNT_DETACH)) })
	for name, noRanges := range map[string]bool{"in parts": false, "in one piece": true} {
		t.Run(name, func(t *testing.T) {
			o := &origin{body: content(200_000), etag: `"v1"`, noRanges: noRanges}
			s := newSetup(t, o)
			path := filepath.Join(small, "data.bin")
			_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: path})
			require.ErrorIs(t, err, syscall.ENOSPC)
			f := fault.Of(err, "Unsorted")
			assert.Equal(t, tuningv1alpha1.ReasonVolumeFull, f.Reason)
			assert.True(t, f.Permanent)
			assert.NoFileExists(t, path)
			require.NoError(t, os.RemoveAll(path+".part"))
			require.NoError(t, os.RemoveAll(path+".part.json"))
		})
	}
}
