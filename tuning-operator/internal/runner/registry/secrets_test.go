// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"kaito.sh/tuning-operator/internal/runner/progress"
)

// TestMessagesContainNoSignature checks the error and the log of a failed pull and push after a redirect to a URL with
// a signature.
func TestMessagesContainNoSignature(t *testing.T) {
	const signature = "hunter2"
	nothing, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nothing.Close())
	dead := "https://robot:" + signature + "@" + nothing.Addr().String() + "/x?sig=" + signature
	body := `{"errors":[{"code":"DENIED","message":"see https://robot:` + signature + `@host.example/x?sig=` + signature + `"}]}`
	deny := func(w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(body))
		return true
	}
	redirect := func(w http.ResponseWriter) bool {
		w.Header().Set("Location", dead)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}
	challenge := func(w http.ResponseWriter, realm string) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	for name, fault := range map[string]func(s *server, w http.ResponseWriter, r *http.Request) bool{
		"a token service that refuses": func(s *server, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				return deny(w)
			}
			return challenge(w, s.URL+"/token?sig="+signature)
		},
		"an unavailable token service":  func(_ *server, w http.ResponseWriter, _ *http.Request) bool { return challenge(w, dead) },
		"a registry that refuses":       func(_ *server, w http.ResponseWriter, _ *http.Request) bool { return deny(w) },
		"a redirect without a listener": func(_ *server, w http.ResponseWriter, _ *http.Request) bool { return redirect(w) },
		"a blob's redirect without a listener": func(_ *server, w http.ResponseWriter, r *http.Request) bool {
			return r.Method != http.MethodPut && strings.Contains(r.URL.Path, "/blobs/") && redirect(w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			img := build(t, map[string]string{"adapter_config.json": "{}"})
			_, err := s.client(t, s.config()).Push(context.Background(), s.host+"/team/adapter:1", img)
			require.NoError(t, err)
			s.fault = func(w http.ResponseWriter, r *http.Request) bool { return fault(s, w, r) }
			client, out := s.client(t, s.config()), &bytes.Buffer{}
			client.Progress = progress.New("push", out, clock.RealClock{})
			_, pull := client.Pull(context.Background(), s.host+"/team/adapter:1", t.TempDir(), nil)
			_, push := client.Push(
				context.Background(),
				s.host+"/team/adapter:2",
				build(t, map[string]string{"adapter_config.json": `{"other":1}`}),
			)
			for _, err := range []error{pull, push} {
				require.Error(t, err)
				assert.NotContains(t, err.Error(), signature)
			}
			assert.NotContains(t, out.String(), signature)
		})
	}
}
