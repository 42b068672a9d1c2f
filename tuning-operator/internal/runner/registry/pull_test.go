// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// weightBytes is the size of each file in the image, in incompressible bytes.
	weightBytes = 300 << 10
	weightFiles = 4
)

// weights returns an image with an archive and then one file per layer, as tools for models push them, and the expected
// files.
func (s *server) weights(t *testing.T, ref string) (want map[string]string, total int64) {
	t.Helper()
	dice := rand.NewChaCha8([32]byte{1})
	bytesOf := func() string {
		out := make([]byte, weightBytes)
		_, _ = dice.Read(out) // does not fail
		return string(out)
	}
	want = map[string]string{"packed.bin": bytesOf()}
	archive := gzipped(t, tarball(t, entry{name: "data/packed.bin", body: want["packed.bin"]}))
	layers := []mutate.Addendum{{Layer: archive}}
	for n := range weightFiles - 1 {
		file := fmt.Sprintf("model-%d.safetensors", n)
		want[file] = bytesOf()
		layers = append(
			layers,
			mutate.Addendum{
				Layer:       static.NewLayer([]byte(want[file]), types.MediaType("application/vnd.cncf.model.weight.v1.raw")),
				Annotations: map[string]string{"org.opencontainers.image.title": file},
			},
		)
	}
	s.artifact(t, ref, layers...)
	for _, layer := range layers {
		size, err := layer.Layer.Size()
		require.NoError(t, err)
		total += size
	}
	return want, total
}

// line counts the bytes of blobs. It interrupts each connection, or calls a function, after a number of bytes.
type line struct {
	sent   atomic.Int64
	ranges bool
	// cut is the number of bytes before a connection is interrupted; 0: never.
	cut int
	// at is the total number of bytes after which call is called and nothing more is sent.
	at   int64
	call func()
}

func (l *line) of(w http.ResponseWriter) http.ResponseWriter {
	if l.ranges {
		w.Header().Set("Accept-Ranges", "bytes")
	}
	return &connection{ResponseWriter: w, line: l}
}

type connection struct {
	http.ResponseWriter
	line *line
	sent int
}

// Write forwards small pieces, so that the interruption is exact.
func (c *connection) Write(p []byte) (int, error) {
	n := 0
	for piece := range slices.Chunk(p, 4<<10) {
		written, err := c.ResponseWriter.Write(piece)
		n += written
		if err != nil {
			return n, err
		}
		c.sent += written
		if sent := c.line.sent.Add(int64(written)); c.line.call != nil && sent >= c.line.at {
			c.line.call()
			panic(http.ErrAbortHandler) // the remaining bytes could arrive before the call has an effect
		}
		if c.line.cut > 0 && c.sent >= c.line.cut {
			if f, ok := c.ResponseWriter.(http.Flusher); ok {
				f.Flush()
			}
			panic(http.ErrAbortHandler)
		}
	}
	return n, nil
}

// If each interruption started a layer again, a pull over a bad connection would never end.
func TestPullResumesInterruptedConnections(t *testing.T) {
	s := newServer(t)
	want, total := s.weights(t, "/weights:1")
	l := &line{ranges: true, cut: 100 << 10}
	s.by(l.of)
	dir := t.TempDir()
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/weights:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, want, contents(t, dir))
	// A new connection sends as much as its buffers hold before the rest is requested.
	assert.Less(t, l.sent.Load(), 3*total)
	assert.NoDirExists(t, filepath.Join(dir, ".incoming"))
}

func TestRegistryWithoutRangesSendsTheLayerAgain(t *testing.T) {
	s := newServer(t)
	want, total := s.weights(t, "/weights:1")
	l := &line{}
	var cuts atomic.Int32
	s.by(func(w http.ResponseWriter) http.ResponseWriter {
		c := l.of(w).(*connection)
		if cuts.Add(1) == 1 {
			c.line = &line{cut: 100 << 10}
		}
		return c
	})
	dir := t.TempDir()
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/weights:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, want, contents(t, dir))
	assert.Equal(t, total, l.sent.Load())
}

// An interrupted pull leaves no incomplete file. The next pull fetches the missing layers, and a third one nothing.
func TestInterruptedPullKeepsCompleteLayers(t *testing.T) {
	for at := int64(weightBytes / 2); at < weightFiles*weightBytes; at += weightBytes {
		t.Run(fmt.Sprintf("after %d bytes", at), func(t *testing.T) {
			s := newServer(t)
			want, total := s.weights(t, "/weights:1")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			first := &line{ranges: true, at: at, call: cancel}
			s.by(first.of)
			dir := t.TempDir()
			_, err := s.client(t, s.config()).Pull(ctx, s.host+"/weights:1", dir, nil)
			require.Error(t, err)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			for _, e := range entries {
				assert.Contains(t, []string{".incoming", ".incoming.json"}, e.Name(), "nothing has its name before all is there")
			}

			second := &line{ranges: true}
			s.by(second.of)
			pulled, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/weights:1", dir, nil)
			require.NoError(t, err)
			assert.Equal(t, want, contents(t, dir))
			assert.Len(t, pulled.Files, len(want))
			if at > weightBytes {
				assert.LessOrEqual(t, second.sent.Load(), total-weightBytes, "the archive was whole")
			}

			third := &line{ranges: true}
			s.by(third.of)
			again, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/weights:1", dir, nil)
			require.NoError(t, err)
			assert.Equal(t, pulled, again)
			assert.Zero(t, third.sent.Load(), "all was there")
		})
	}
}

func TestPullOfAnotherImageStartsAnew(t *testing.T) {
	s := newServer(t)
	s.image(t, "/x:1", gzipped(t, tarball(t, entry{name: "data/a", body: "one"})))
	s.image(t, "/x:2", gzipped(t, tarball(t, entry{name: "data/a", body: "two"})))
	dir := t.TempDir()
	for tag, want := range map[string]string{"1": "one", "2": "two"} {
		_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/x:"+tag, dir, nil)
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"a": want}, contents(t, dir))
	}
	// A removed file is fetched again.
	require.NoError(t, os.Remove(filepath.Join(dir, "a")))
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/x:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "one"}, contents(t, dir))
}
