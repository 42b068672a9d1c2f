// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/fetch"
	"kaito.sh/tuning-operator/internal/runner/netguard"
)

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
