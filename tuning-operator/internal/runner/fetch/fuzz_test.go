// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fetch"
	"kaito.sh/tuning-operator/internal/runner/progress"
)

var ranges = []string{
	"bytes 0-0/1234",
	"bytes 0-0/*",
	"bytes */1234",
	"bytes 0-0/9223372036854775807",
	"bytes 0-0/4611686018427387904",
	"bytes 0-0/9223372036854775808",
	"bytes 0-9223372036854775806/9223372036854775807",
	"bytes 9-3/-1",
	"bytes +0-0/1",
	"bytes 0-0/12abc",
	" bytes 0-0/1",
	"bytes 0-0/1 ",
	"bytes=0-0/1",
	"items 0-0/1",
	"",
}

func FuzzContentRange(f *testing.F) {
	for _, seed := range ranges {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		from, to, total, err := fetch.ParseContentRange(text)
		if err != nil {
			assert.Zero(t, from+to+total)
			assert.Less(t, len(err.Error()), 2000)
			return
		}
		assert.True(t, 0 <= from && from <= to && to < total, "%q: %d %d %d", text, from, to, total)
	})
}

// canned gives each request the same answer.
type canned struct {
	status int
	header http.Header
	length int64
	body   []byte
}

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode:    c.status,
		Header:        c.header,
		ContentLength: c.length,
		Body:          io.NopCloser(bytes.NewReader(c.body)),
		Request:       req,
		ProtoMajor:    1,
		ProtoMinor:    1,
	}, nil
}

// FuzzAnswers searches for an answer that panics, that allocates memory for missing bytes, or that exceeds the budget.
func FuzzAnswers(f *testing.F) {
	for _, seed := range ranges {
		f.Add(206, seed, `"v1"`, int64(1), []byte("x"))
		f.Add(200, seed, "", int64(10), bytes.Repeat([]byte("x"), 200))
	}
	f.Add(200, "", "", int64(-1), bytes.Repeat([]byte("x"), 200))
	f.Add(416, "bytes */0", "", int64(0), []byte{})
	f.Fuzz(func(t *testing.T, status int, contentRange, tag string, length int64, body []byte) {
		const budget = 100
		path := filepath.Join(t.TempDir(), "file")
		header := http.Header{"Content-Range": {contentRange}, "Etag": {tag}, "Retry-After": {strconv.FormatInt(length, 10)}}
		d := &fetch.Downloader{
			Client:   &http.Client{Transport: canned{status, header, length, body}},
			Clock:    clock.RealClock{},
			Progress: progress.New("fetch", io.Discard, clock.RealClock{}),
			Backoff:  wait.Backoff{Steps: 1},
			Parallel: 2,
			PartSize: 16,
			Budget:   disk.NewBudget(budget),
		}
		_, _, err := d.Get(context.Background(), fetch.File{URL: "https://host.example/file", Path: path})
		files, globErr := filepath.Glob(path + "*")
		require.NoError(t, globErr)
		for _, file := range files {
			info, statErr := os.Stat(file)
			require.NoError(t, statErr)
			if filepath.Ext(file) != ".json" { // the state
				assert.LessOrEqual(t, info.Size(), int64(budget), file)
			}
		}
		if err == nil {
			assert.FileExists(t, path)
		}
	})
}
