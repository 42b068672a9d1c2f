// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/fetch"
)

func TestOversizedFileIsRefusedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		total  int64
		reason string
	}{
		"the largest integer":              {math.MaxInt64, tuningv1alpha1.ReasonSourceTooLarge},
		"a quarter of the largest integer": {1 << 61, tuningv1alpha1.ReasonSourceTooLarge},
		"more than maxParts":               {(1 << 44) + 1, tuningv1alpha1.ReasonSourceTooLarge},
		"more than the free space":         {15 << 40, tuningv1alpha1.ReasonVolumeFull},
	} {
		for _, ranges := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ranges %t", name, ranges), func(t *testing.T) {
				o := &origin{script: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
					if ranges {
						return partial(w, fmt.Sprintf("bytes 0-0/%d", c.total), []byte("x"))
					}
					w.Header().Set("Content-Length", strconv.FormatInt(c.total, 10))
					w.WriteHeader(http.StatusOK)
					return true
				}}
				s := newSetup(t, o)
				s.PartSize = fetch.PartSize
				_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
				require.Error(t, err)
				f := fault.Of(err, "Unsorted")
				assert.True(t, f.Permanent, "%v", err)
				if ranges {
					assert.Equal(t, c.reason, f.Reason)
				} else { // no parts, and so no limit of their number
					assert.Equal(t, tuningv1alpha1.ReasonVolumeFull, f.Reason)
				}
				assert.Equal(t, 1, o.requests, "the probe alone")
				left, err := filepath.Glob(s.path + "*")
				require.NoError(t, err)
				assert.Empty(t, left)
			})
		}
	}
}

func TestExcessBytesAreRefused(t *testing.T) {
	const announced, flood = 10, 64 << 20
	var sent atomic.Int64
	o := &origin{script: func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n == 0 {
			w.Header().Set("Content-Length", strconv.Itoa(announced))
			_, _ = w.Write(content(announced))
			return true
		}
		for chunk := content(1 << 20); sent.Load() < flood; sent.Add(int64(len(chunk))) {
			if _, err := w.Write(chunk); err != nil {
				return true
			}
		}
		return true
	}}
	s := newSetup(t, o)
	s.Backoff.Steps = 1
	_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
	assert.ErrorContains(t, err, "sends more than the 10 bytes that it announced")
	assert.NoFileExists(t, s.path)
	info, err := os.Stat(s.path + ".part")
	require.NoError(t, err)
	assert.LessOrEqual(t, info.Size(), int64(announced))
	assert.Less(t, sent.Load(), int64(flood), "the connection was cut")
}
