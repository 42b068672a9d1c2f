// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// counter forwards bytes and calls a function after a number of them.
type counter struct {
	http.ResponseWriter
	sent *atomic.Int64
	at   *atomic.Int64
	call func()
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	if sent, at := c.sent.Add(int64(n)), c.at.Load(); sent >= at && sent-int64(n) < at {
		c.call()
	}
	return n, err
}

// TestFetchResumesAfterKills kills the program several times after a random number of bytes, and lets the last run
// finish. The file is complete or absent each time, and complete parts are not transferred again.
func TestFetchResumesAfterKills(t *testing.T) {
	program := filepath.Join(t.TempDir(), "runner")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))

	const kills, rows = 8, 1 << 20
	var content bytes.Buffer
	for n := range rows { // 40 MiB: 2.5 parts
		fmt.Fprintf(&content, "{\"text\":\"row number %08d of many\"}\n", n)
	}
	require.Greater(t, content.Len(), 2*16<<20)
	for name, ranges := range map[string]bool{"with ranges": true, "without ranges": false} {
		t.Run(name, func(t *testing.T) {
			var sent, at atomic.Int64
			var running atomic.Pointer[os.Process]
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c := &counter{w, &sent, &at, func() {
					if p := running.Load(); p != nil {
						_ = p.Kill() // it may have ended
					}
				}}
				w.Header().Set("ETag", `"v1"`)
				if !ranges {
					_, _ = c.Write(content.Bytes()[:content.Len()/2])
					_, _ = c.Write(content.Bytes()[content.Len()/2:])
					return
				}
				http.ServeContent(c, r, "", time.Time{}, bytes.NewReader(content.Bytes()))
			}))
			t.Cleanup(server.Close)
			folder := t.TempDir()
			path := filepath.Join(folder, "data.jsonl")
			run := func() error {
				cmd := exec.Command(
					program, "fetch", "--allow-private", "--dataset-url="+server.URL+"/data.jsonl", "--dataset-dir="+folder,
					"--termination-log="+filepath.Join(t.TempDir(), "log"),
				)
				require.NoError(t, cmd.Start())
				running.Store(cmd.Process)
				return cmd.Wait()
			}
			seed := rand.Uint64()
			if given := os.Getenv("SEED"); given != "" {
				_, err := fmt.Sscan(given, &seed)
				require.NoError(t, err)
			}
			t.Logf("SEED=%d kills at the same bytes again", seed)
			dice := rand.New(rand.NewPCG(seed, 0))
			killed := 0
			for range kills {
				sent.Store(0)
				at.Store(1 + dice.Int64N(int64(content.Len())))
				if run() != nil {
					killed++
				}
				if got, err := os.ReadFile(path); err == nil {
					require.True(t, bytes.Equal(content.Bytes(), got), "a file that has its name is whole")
					require.NoError(t, os.Remove(path))
				}
			}
			assert.Greater(t, killed, kills/2, "of %d", kills)
			at.Store(-1)
			sent.Store(0)
			require.NoError(t, run())
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content.Bytes(), got))
			left, err := filepath.Glob(filepath.Join(folder, "*.part*"))
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}
