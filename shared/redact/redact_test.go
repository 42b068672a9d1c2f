// SPDX-License-Identifier: Apache-2.0

package redact_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/redact"
)

func TestURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://host.example/a/b.parquet":                  "https://host.example/a/b.parquet",
		"https://host.example/a.parquet?sig=s3cret&se=2026": "https://host.example/a.parquet?…",
		"https://user:s3cret@host.example/a?sig=s3cret":     "https://host.example/a?…",
		"https://us@er:s3cret@host.example":                 "https://host.example",
		"https://host.example?sig=s3cret":                   "https://host.example?…",
		"https://host.example/a#s3cret":                     "https://host.example/a",
		"https://host.example/a?x=https://b/c@d?sig=s3cret": "https://host.example/a?…",
		"https://host.example/a%zz?sig=s3cret":              "https://host.example/a%zz?…",
		"https://host.example/a@b":                          "https://host.example/a@b",
		"/a?sig=s3cret":                                     "/a?…",
		"":                                                  "",
	} {
		assert.Equal(t, want, redact.URL(in), in)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`Get "https://h/a?sig=s3cret": dial tcp: refused`:                        `Get "https://h/a?…": dial tcp: refused`,
		`see https://h/a?sig=s3cret, then https://u:s3cret@h/b.`:                 `see https://h/a?…, then https://h/b.`,
		`failed to parse Location header "/x%zz?sig=s3cret": bad`:                `failed to parse Location header "/x%zz?…": bad`,
		`Get "https://h/a?sig=\"s3cret\"&x='s3cret'": EOF`:                       `Get "https://h/a?…": EOF`,
		`spec.x should match '^https?://.+', is it "ftp"?`:                       `spec.x should match '^https?://.+', is it "ftp"?`,
		`failed to parse Location header "https://bad host/b?sig=s3cret": parse`: `failed to parse Location header "https://bad host/b?…": parse`,
		`did you mean phi-4? Ask team@example.com`:                               `did you mean phi-4? Ask team@example.com`,
		`the path "/data/a b" of "^https?://.+"`:                                 `the path "/data/a b" of "^https?://.+"`,
		`the image registry.example/a@sha256:0123 is "x?y"`:                      `the image registry.example/a@sha256:0123 is "x?y"`,
		`(https://h/a?sig=s3cret)`:                                               `(https://h/a?…)`,
		`HTTPS://H/A?SIG=s3cret`:                                                 `HTTPS://H/A?…`,
		`wasbs://box:s3cret@account.example/x and s3://key:s3cret@bucket/key`:    `wasbs://account.example/x and s3://bucket/key`,
	} {
		assert.Equal(t, want, redact.Text(in), in)
	}
}

func TestErrorKeepsItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("refused")
	for _, address := range []string{
		"https://h/a?sig=s3cret", `https://h/a?sig= s3cret`, `https://h/a?sig="s3cret"`, "https://h/a?sig=\ts3cret", "/a?sig=s3cret", "https://h/a?<s3cret>",
	} {
		err := fmt.Errorf("fetching: %w", errors.Join(errors.New("first"), &url.Error{Op: "Get", URL: address, Err: cause}))
		got := redact.Error(err)
		assert.NotContains(t, got.Error(), "s3cret")
		assert.Contains(t, got.Error(), "/a?…")
		assert.ErrorIs(t, got, cause)
	}
	plain := errors.New("plain")
	assert.Same(t, plain, redact.Error(plain))
	require.NoError(t, redact.Error(nil))
}

func FuzzNoSecretPasses(f *testing.F) {
	f.Add("https://h.example/a", "Get %q: refused")
	f.Add("/a%zz", "failed to parse Location header %q: bad")
	f.Fuzz(func(t *testing.T, before, format string) {
		if strings.Contains(before+format, "s3cret") || strings.Count(format, "%") != 1 || !strings.Contains(format, "%q") {
			t.Skip("no place for the secret")
		}
		address := before + "?sig=s3cret"
		err := fmt.Errorf(
			strings.ReplaceAll(format, "%q", "%w"), &url.Error{Op: "Get", URL: address, Err: errors.New("refused")},
		)
		assert.NotContains(t, redact.Error(err).Error(), "s3cret", "%s", address)
	})
}
