// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"kaito.sh/tuning-operator/internal/runner/fetch"
	"kaito.sh/tuning-operator/internal/runner/netguard"
	"kaito.sh/tuning-operator/internal/runner/progress"
	"kaito.sh/tuning-operator/internal/runner/registry"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

var (
	size     = flag.Int("size", 2<<20, "bytes of the file")
	partSize = flag.Int64("part", 0, "bytes of a part; 0: the runner's own, or an eighth of a small file")
	rounds   = flag.Int("rounds", 1, "times that the subjects take turns; the median counts")
	parallel = flag.Int("parallel", 8, "range requests at once, as --parallel")
	strict   = flag.Bool("strict", false, "fail below the bars, which mean little on a busy machine")
)

// The required throughput of the runner relative to that of curl.
const (
	barOne    = 0.9
	barRanges = 1.0
)

// lines are a distant server, and a distant server with packet loss.
var lines = []struct {
	name string
	line line
}{
	{"40 ms", line{roundTrip: 40 * time.Millisecond, window: 800}},
	{"40 ms, 0.02 % lost", line{roundTrip: 40 * time.Millisecond, loseOneIn: 5000, window: 800}},
}

func TestFetchComparedToCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl")
	}
	content := make([]byte, *size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(
		t,
		os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600),
	)

	var table strings.Builder
	fmt.Fprintf(
		&table, "%d bytes, median of %d rounds\n%-20s %12s %22s %22s\n", *size, *rounds, "line", "curl",
		"runner, one request", fmt.Sprintf("runner, %d at once", *parallel),
	)
	for _, l := range lines {
		p := newProxy(t, l.line, server.Listener.Addr().String())
		url := "https://" + p.listener.Addr().String() + "/model.safetensors"
		took := map[string][]time.Duration{}
		for range *rounds {
			for name, get := range map[string]func(path string) error{
				"curl":   func(path string) error { return curl(t.Context(), authority, url, path) },
				"one":    func(path string) error { return run(t.Context(), server.Certificate(), url, path, 1) },
				"ranges": func(path string) error { return run(t.Context(), server.Certificate(), url, path, *parallel) },
			} {
				path := filepath.Join(t.TempDir(), name)
				began := time.Now()
				require.NoError(t, get(path), name)
				took[name] = append(took[name], time.Since(began))
				got, err := os.ReadFile(path)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, got), "%s brought other bytes", name)
				require.NoError(t, os.Remove(path))
			}
		}
		curl, one, ranges := median(took["curl"]), median(took["one"]), median(took["ranges"])
		fmt.Fprintf(
			&table, "%-20s %12s %22s %22s\n", l.name, speed(curl), speed(one)+ratio(curl, one),
			speed(ranges)+ratio(curl, ranges),
		)
		if *strict {
			assert.GreaterOrEqual(t, curl.Seconds()/one.Seconds(), barOne, "one request at a time, beside curl, over %s", l.name)
			assert.Greater(
				t, curl.Seconds()/ranges.Seconds(), barRanges, "%d requests at a time, beside curl, over %s", *parallel, l.name,
			)
		}
	}
	t.Log(table.String())
}

func curl(ctx context.Context, authority, url, path string) error {
	out, err := exec.CommandContext(ctx, "curl", "--silent", "--show-error", "--fail", "--cacert", authority, "--output", path, url).
		CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// run fetches as the runner's command does. Unlike curl it also checks the digest.
func run(ctx context.Context, authority *x509.Certificate, url, path string, parallel int) error {
	client := registry.NewHTTP(netguard.Policy{AllowPrivate: true, AllowLocal: true})
	transport := client.Transport.(*http.Transport)
	defer transport.CloseIdleConnections()
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	part := *partSize
	if part == 0 && *size < fetch.PartSize*2 {
		part = int64(*size / 8)
	}
	d := &fetch.Downloader{
		Client: client, Clock: clock.RealClock{}, Progress: progress.New("fetch", io.Discard, clock.RealClock{}),
		Backoff: retry.Default(), Parallel: parallel, PartSize: part,
	}
	_, _, err := d.Get(ctx, fetch.File{URL: url, Path: path})
	return err
}

func median(took []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(took))[len(took)/2]
}

func speed(took time.Duration) string {
	return fmt.Sprintf("%.1f MB/s", float64(*size)/took.Seconds()/1e6)
}

func ratio(reference, took time.Duration) string {
	return fmt.Sprintf(" (%.2f ×)", reference.Seconds()/took.Seconds())
}
