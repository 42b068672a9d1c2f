// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/tuning-operator/internal/runner/fetch"
	"kaito.sh/tuning-operator/internal/runner/netguard"
)

const secret = "s3cret"

// refused returns an address without a listener.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func redirectTo(to string) func(int, http.ResponseWriter, *http.Request) bool {
	return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
		return true
	}
}

// TestMessagesContainNoSignature checks the error and the log of each failure of a download whose URL has a signature
// and a password.
func TestMessagesContainNoSignature(t *testing.T) {
	nothing := refused(t)
	for name, c := range map[string]struct {
		script func(n int, w http.ResponseWriter, r *http.Request) bool
		change func(s *setup)
		says   string
	}{
		"connection refused":            {change: func(s *setup) { s.url = "https://robot:" + secret + "@" + nothing + "/a?sig=" + secret }, says: "refused"},
		"another certificate":           {change: func(s *setup) { s.Client = &http.Client{Transport: &http.Transport{}} }, says: "certificate"},
		"a timeout":                     {change: func(s *setup) { s.Client.Timeout = time.Millisecond }, script: func(_ int, _ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, says: "exceeded"},
		"a redirect without a listener": {script: redirectTo("https://robot:" + secret + "@" + nothing + "/b?sig=" + secret), says: "refused"},
		"a redirect to a bad host":      {script: redirectTo("https://bad host/b?sig=" + secret), says: "Location"},
		"a redirect to a bad path":      {script: redirectTo("/b%zz?sig=" + secret), says: "Location"},
		"a redirect away from https":    {script: redirectTo("http://" + nothing + "/b?sig=" + secret), says: "leaves https"},
		"endless redirects":             {script: redirectTo("?sig=" + secret), says: "redirects"},
		"an error with a body": {script: func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte("<Error>" + r.URL.String() + "</Error>"))
			return true
		}, says: "403"},
		"a refusal by netguard": {change: func(s *setup) {
			s.Client = &http.Client{Transport: netguard.Policy{}.Transport(), CheckRedirect: netguard.CheckRedirect}
		}, says: "loopback"},
		"a redirect that netguard refuses": {script: redirectTo("https://169.254.169.254/b?sig=" + secret), change: func(s *setup) {
			guarded := netguard.Policy{AllowLocal: true, AllowPrivate: true}.Transport()
			guarded.TLSClientConfig = s.Client.Transport.(*http.Transport).TLSClientConfig
			guarded.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if host, _, _ := net.SplitHostPort(address); host == "169.254.169.254" {
					return nil, &netguard.DeniedError{Address: host, Kind: "link-local"}
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
			s.Client.Transport = guarded
		}, says: "link-local"},
		"an invalid URL": {change: func(s *setup) { s.url = "https://robot:" + secret + "@host\x7f/a?sig=" + secret }, says: "invalid"},
		"plain http":     {change: func(s *setup) { s.url = "http://robot:" + secret + "@host/a?sig=" + secret }, says: "https"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, &origin{body: content(100), script: c.script})
			s.url += "&sig=" + secret
			if c.change != nil {
				c.change(s)
			}
			_, _, err := s.Get(context.Background(), fetch.File{URL: s.url, Path: s.path})
			require.Error(t, err)
			assert.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), secret)
			assert.NotContains(t, s.out.String(), secret)
			s.Client.CloseIdleConnections()
		})
	}
}

func TestHubMessagesContainNoSignature(t *testing.T) {
	for name, location := range map[string]string{"of its index": "/api/", "of a file": "/resolve/"} {
		t.Run(name, func(t *testing.T) {
			index := `{"sha":"` + pinned + `","siblings":[{"rfilename":"model.safetensors"}]}`
			signed := "https://robot:" + secret + "@" + refused(t) + "/cdn?X-Amz-Signature=" + secret
			s := newSetup(t, &origin{script: func(n int, w http.ResponseWriter, r *http.Request) bool {
				if location == "/api/" || r.URL.Path != "/api/models/org/model/revision/main" {
					return redirectTo(signed)(n, w, r)
				}
				_, _ = w.Write([]byte(index))
				return true
			}})
			hub := newHub(s, "")
			snapshot, err := hub.Resolve(context.Background(), fetch.Model, "org/model", "")
			if location != "/api/" {
				require.NoError(t, err)
				_, _, err = hub.Download(context.Background(), fetch.Model, snapshot, snapshot.Files, t.TempDir())
			}
			assert.ErrorContains(t, err, "refused")
			assert.NotContains(t, err.Error(), secret)
			assert.NotContains(t, s.out.String(), secret)
		})
	}
}

// TestRefererContainsNoSignature checks a redirect: net/http puts the whole redirecting URL into the header Referer.
func TestRefererContainsNoSignature(t *testing.T) {
	body := content(100)
	next := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Empty(t, r.Referer())
		_, _ = w.Write(body)
	}))
	t.Cleanup(next.Close)
	s := newSetup(t, &origin{script: redirectTo(next.URL + "/b")}) // the servers of httptest share one certificate
	_, _, err := s.Get(context.Background(), fetch.File{URL: s.url + "&sig=" + secret, Path: s.path})
	require.NoError(t, err)
	s.assertFile(t, body)
}
