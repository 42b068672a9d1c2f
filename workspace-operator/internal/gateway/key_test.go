// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mountedSecret lays a file out as the kubelet does: a data directory that a symbolic link names, and the file as a
// link through it.
type mountedSecret struct{ dir string }

func newMountedSecret(t *testing.T, content string) *mountedSecret {
	t.Helper()
	s := &mountedSecret{dir: t.TempDir()}
	s.swap(t, "1", content)
	require.NoError(t, os.Symlink(filepath.Join("..data", "keys"), s.path()))
	return s
}

func (s *mountedSecret) path() string { return filepath.Join(s.dir, "keys") }

// swap puts new content in place as the kubelet does, by renaming a link over the old one, and removes the old.
func (s *mountedSecret) swap(t *testing.T, version, content string) {
	t.Helper()
	old, _ := os.Readlink(filepath.Join(s.dir, "..data")) // none the first time
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, "..v"+version), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "..v"+version, "keys"), []byte(content), 0o600))
	// A Secret's files can carry one and the same time: the swap alone must be enough.
	require.NoError(t, os.Chtimes(filepath.Join(s.dir, "..v"+version, "keys"), epoch, epoch))
	require.NoError(t, os.Symlink("..v"+version, filepath.Join(s.dir, "..tmp")))
	require.NoError(t, os.Rename(filepath.Join(s.dir, "..tmp"), filepath.Join(s.dir, "..data")))
	if old != "" {
		require.NoError(t, os.RemoveAll(filepath.Join(s.dir, old)))
	}
}

func (f *fixture) statusWithKey(t *testing.T, key string) int {
	t.Helper()
	res, _ := f.do(t, http.MethodGet, "/v1/models", "", "Authorization", "Bearer "+key)
	return res.StatusCode
}

func TestWithoutAKeyNothingIsAnswered(t *testing.T) {
	secret := newMountedSecret(t, "# team a\nalpha-key\n\n  beta-key  \n")
	f := start(t, answer(oneChoice), func(c *Config) { c.APIKeyFile = secret.path() })
	for name, tc := range map[string]struct {
		header string
		want   int
	}{
		"none":                        {"", 401},
		"a wrong one":                 {"Bearer gamma-key", 401},
		"the beginning of one":        {"Bearer alpha", 401},
		"an empty one":                {"Bearer ", 401},
		"a comment":                   {"Bearer # team a", 401},
		"another scheme":              {"Basic alpha-key", 401},
		"no scheme":                   {"alpha-key", 401},
		"the first":                   {"Bearer alpha-key", 200},
		"the second, without spaces":  {"Bearer beta-key", 200},
		"the scheme in small":         {"bearer alpha-key", 200},
		"as Anthropic's clients":      {"X-Api-Key: alpha-key", 200},
		"a wrong one of Anthropic's":  {"X-Api-Key: gamma-key", 401},
		"an empty one of Anthropic's": {"X-Api-Key: ", 401},
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range [][2]string{{http.MethodPost, "/chat"}, {http.MethodGet, "/v1/models"}} {
				var header []string
				if key, other := strings.CutPrefix(tc.header, "X-Api-Key: "); other {
					header = []string{"X-Api-Key", key}
				} else if tc.header != "" {
					header = []string{"Authorization", tc.header}
				}
				before := len(f.requests())
				res, body := f.do(t, call[0], call[1], `{"prompt":"q"}`, header...)
				if tc.want == http.StatusOK {
					require.Equal(t, http.StatusOK, res.StatusCode, body)
					continue
				}
				requireError(t, res, body, http.StatusUnauthorized, "invalid_api_key")
				assert.Equal(t, "Bearer", res.Header.Get("WWW-Authenticate"))
				assert.Len(t, f.requests(), before, "the engine hears nothing of it")
			}
		})
	}
	for _, open := range []string{"/healthz", "/metrics", "/health", "/ping"} {
		res, _ := f.do(t, http.MethodGet, open, "")
		assert.Equal(t, http.StatusOK, res.StatusCode, "probes and scrapes carry no key")
	}
}

func TestKeysFollowTheMountedSecret(t *testing.T) {
	secret := newMountedSecret(t, "old-key\n")
	f := start(t, answer(`{}`), func(c *Config) { c.APIKeyFile = secret.path() })
	require.Equal(t, http.StatusOK, f.statusWithKey(t, "old-key"))

	secret.swap(t, "2", "new-key\n")
	assert.Equal(t, http.StatusOK, f.statusWithKey(t, "old-key"), "the file is not looked at again within a second")
	f.clock.Step(keyCheckEvery)
	assert.Equal(t, http.StatusOK, f.statusWithKey(t, "new-key"))
	assert.Equal(t, http.StatusUnauthorized, f.statusWithKey(t, "old-key"))
	assert.Equal(t, "1", f.metric(t, `kaito_gateway_api_key_reloads_total{result="success"}`))

	f.clock.Step(time.Hour)
	assert.Equal(t, http.StatusOK, f.statusWithKey(t, "new-key"))
	assert.Equal(
		t,
		"1",
		f.metric(t, `kaito_gateway_api_key_reloads_total{result="success"}`),
		"a file that did not change is not read",
	)

	secret.swap(t, "3", "\n# no key\n")
	f.clock.Step(keyCheckEvery)
	assert.Equal(t, http.StatusUnauthorized, f.statusWithKey(t, "new-key"), "an emptied file withdraws every key")
}

func TestAKeyFileThatIsWrittenInPlaceIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, []byte("old-key"), 0o600))
	f := start(t, answer(`{}`), func(c *Config) { c.APIKeyFile = path })
	require.NoError(t, os.WriteFile(path, []byte("new-key"), 0o600))
	later := time.Now().Add(time.Hour)
	require.NoError(t, os.Chtimes(path, later, later))
	f.clock.Step(keyCheckEvery)
	assert.Equal(t, http.StatusOK, f.statusWithKey(t, "new-key"))
}

func TestAKeyFileThatCannotBeReadKeepsTheKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, []byte("a-key"), 0o600))
	f := start(t, answer(`{}`), func(c *Config) { c.APIKeyFile = path })
	require.NoError(t, os.Remove(path))
	f.clock.Step(keyCheckEvery)
	assert.Equal(t, http.StatusOK, f.statusWithKey(t, "a-key"))
	assert.Equal(t, "1", f.metric(t, `kaito_gateway_api_key_reloads_total{result="error"}`))
	assert.Contains(t, f.logs.String(), "Keeping the last API keys")
}

func TestGatewayDoesNotStartWithoutItsRequiredKeys(t *testing.T) {
	dir := t.TempDir()
	empty, long := filepath.Join(dir, "empty"), filepath.Join(dir, "long")
	require.NoError(t, os.WriteFile(empty, []byte("# none\n"), 0o600))
	require.NoError(t, os.WriteFile(long, make([]byte, maxKeyFileBytes+1), 0o600))
	for path, says := range map[string]string{empty: "has no key", long: "at most", filepath.Join(dir, "missing"): "no such file", dir: "is a directory"} {
		cfg := DefaultConfig()
		cfg.Model, cfg.APIKeyFile = "m", path
		_, err := New(cfg, Options{})
		require.Error(t, err)
		assert.Contains(t, err.Error(), says)
		assert.Contains(t, err.Error(), "api-key-file")
	}
}
