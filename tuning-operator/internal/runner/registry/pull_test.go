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
	// weightBytes of each file of the image below, incompressible.
	weightBytes = 300 << 10
	weightFiles = 4
)

// weights are an image with an archive at first and then a file a layer, as tools for models push them, and what is to
// come of it.
func (s *server) weights(t *testing.T, ref string) (want map[string]string, total int64) {
	t.Helper()
	dice := rand.NewChaCha8([32]byte{1})
	bytesOf := func() string {
		out := make([]byte, weightBytes)
		_, _ = dice.Read(out) // never fails
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

// line counts the bytes of blobs, and cuts each connection after so many, or calls back after so many in all.
type line struct {
	sent   atomic.Int64
	ranges bool
	// cut: bytes of one connection; 0 means that none is cut.
	cut int
	// at: bytes in all after which call is called, and nothing more is sent.
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

// Write passes on small pieces, so that a cut is where it is meant to be.
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
			panic(http.ErrAbortHandler) // what is still to be sent could be there before the call has an effect
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

// Guards against beginning a layer of gigabytes again at each cut: with a connection that is cut more often than a
// layer takes, nothing would ever arrive.
func TestAPullGoesOnWhereTheConnectionWasCut(t *testing.T) {
	s := newServer(t)
	want, total := s.weights(t, "/weights:1")
	l := &line{ranges: true, cut: 100 << 10}
	s.by(l.of)
	dir := t.TempDir()
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/weights:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, want, contents(t, dir))
	// What a new connection sends before it is asked for the rest is what its buffers take.
	assert.Less(t, l.sent.Load(), 3*total)
	assert.NoDirExists(t, filepath.Join(dir, ".incoming"))
}

func TestARegistryWithoutRangesIsAskedForTheWholeLayerAgain(t *testing.T) {
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

// A pull that ends in the middle, as by a kill, leaves no file that is not whole; the next one takes what is missing,
// and one after that nothing.
func TestAPullThatWasEndedGoesOnWithTheNextLayer(t *testing.T) {
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

func TestAPullOfAnotherImageBeginsAnew(t *testing.T) {
	s := newServer(t)
	s.image(t, "/x:1", gzipped(t, tarball(t, entry{name: "data/a", body: "one"})))
	s.image(t, "/x:2", gzipped(t, tarball(t, entry{name: "data/a", body: "two"})))
	dir := t.TempDir()
	for tag, want := range map[string]string{"1": "one", "2": "two"} {
		_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/x:"+tag, dir, nil)
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"a": want}, contents(t, dir))
	}
	// A file that somebody has removed is not taken for being there.
	require.NoError(t, os.Remove(filepath.Join(dir, "a")))
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/x:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "one"}, contents(t, dir))
}
