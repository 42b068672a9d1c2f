// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
)

func TestModelAndDatasetShareOneLimit(t *testing.T) {
	for bytes, reason := range map[string]string{"38": "", "37": tuningv1alpha1.ReasonSourceTooLarge} { // 29 for the dataset, 9 for the model
		w := newWorld(t)
		dir := t.TempDir()
		o := w.run(
			t, context.Background(), nil, "fetch", "--allow-private", "--max-bytes", bytes, "--model", "org/model",
			"--model-dir", filepath.Join(dir, "model"), "--dataset-url", w.URL+"/train.jsonl", "--dataset-dir",
			filepath.Join(dir, "data"),
		)
		assert.Equal(t, reason, o.message.Reason, "%s: %s", bytes, o.message.Message)
	}
}

func TestNegativeLimitIsRefused(t *testing.T) {
	w := newWorld(t)
	o := w.run(t, context.Background(), nil, "fetch", "--max-bytes", "-1", "--dataset-dir", t.TempDir())
	assert.Equal(t, 2, o.code)
	assert.Contains(t, o.stderr, "--max-bytes: invalid value -1: use 0 or more")
}

// TestOutputContainsNoSignature checks the log, the errors and the termination message.
func TestOutputContainsNoSignature(t *testing.T) {
	const secret = "hunter2"
	for name, c := range map[string]struct {
		args   func(w *world) []string
		reason string
	}{
		"a refused address": {func(w *world) []string {
			return []string{"fetch", "--dataset-url", w.URL + "/train.jsonl?sig=" + secret}
		}, tuningv1alpha1.ReasonSourceForbidden},
		"an error with a body": {func(w *world) []string {
			return []string{"fetch", "--allow-private", "--dataset-url", w.URL + "/denied?sig=" + secret}
		}, tuningv1alpha1.ReasonSourceDenied},
		"an invalid URL": {func(*world) []string {
			return []string{"fetch", "--dataset-url", "https://robot:" + secret + "@host\x7f/a?sig=" + secret}
		}, tuningv1alpha1.ReasonSourceInvalid},
		"a URL as an image": {func(*world) []string {
			return []string{"fetch", "--dataset-image", "https://robot:" + secret + "@host/a?sig=" + secret}
		}, tuningv1alpha1.ReasonSourceInvalid},
		"a flag that does not exist": {func(*world) []string {
			return []string{"fetch", "--dataset=https://host/a?sig=" + secret, "--nonsense=https://host/a?sig=" + secret}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			next := w.Config.Handler
			w.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/denied" {
					next.ServeHTTP(rw, r)
					return
				}
				rw.WriteHeader(http.StatusForbidden)
				_, _ = rw.Write([]byte(r.URL.String()))
			})
			o := w.run(t, context.Background(), nil, append(c.args(w), "--dataset-dir", t.TempDir())...)
			assert.Equal(t, c.reason, o.message.Reason, o.message.Message)
			assert.NotZero(t, o.code)
			assert.NotEqual(t, message.ExitPreempted, o.code)
			assert.NotContains(t, o.out+o.stderr+o.message.Message, secret)
		})
	}
}
