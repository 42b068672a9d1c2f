// SPDX-License-Identifier: Apache-2.0

package sources

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Login is required by the registry; the zero value disables authentication.
type Login struct{ User, Password string }

// DockerConfig is the content of a pull or push Secret for a host.
func (l Login) DockerConfig(host string) []byte {
	auth := base64.StdEncoding.EncodeToString([]byte(l.User + ":" + l.Password))
	text, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]any{"auth": auth}}})
	if err != nil {
		panic(err) // maps of text always marshal
	}
	return text
}

// NewRegistry is a registry that keeps everything in memory, for pulls and pushes behind the login.
func NewRegistry(login Login) http.Handler {
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if login == (Login{}) {
		return images
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		// Both are compared, so that the time tells nothing.
		if subtle.ConstantTimeCompare([]byte(user), []byte(login.User))&subtle.ConstantTimeCompare(
			[]byte(password), []byte(login.Password),
		) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(
				w,
				`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`,
			) // the client is gone otherwise
			return
		}
		images.ServeHTTP(w, r)
	})
}
