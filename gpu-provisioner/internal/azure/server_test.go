// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"
)

// server implements the part of ARM that is needed to test what the SDK sends and how its responses are read.
type server struct {
	*httptest.Server
	mux      *http.ServeMux
	requests []string
	bodies   map[string]string
	headers  map[string]http.Header
}

type staticToken struct{}

func (staticToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func newServer(t *testing.T) (*server, *ARM) {
	s := &server{mux: http.NewServeMux(), bodies: map[string]string{}, headers: map[string]http.Header{}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// ARM's paths are case-insensitive, and the SDK writes managedclusters for abort only.
		r.URL.Path = strings.Replace(r.URL.Path, "/managedclusters/", "/managedClusters/", 1)
		call := r.Method + " " + strings.TrimPrefix(r.URL.Path, cluster)
		body, _ := io.ReadAll(r.Body) // a test's own request
		s.requests, s.bodies[call], s.headers[call] = append(s.requests, call), string(body), r.Header
		s.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(
		t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600),
	)
	config, err := ParseConfig(
		[]byte(
			valid+"cloud: Custom\nauth: default\nresourceManagerEndpoint: "+s.URL+"\nauthorityHost: https://login.local\ncaFile: "+ca+"\n",
		),
		environment(nil),
	)
	require.NoError(t, err)
	opts, err := config.clientOptions()
	require.NoError(t, err)
	a, err := newARM(
		config, staticToken{}, &arm.ClientOptions{ClientOptions: opts, DisableRPRegistration: true},
		NewLimits(testclock.NewFakeClock(time.Unix(1000, 0)), 1), NewMetrics(prometheus.NewRegistry()),
	)
	require.NoError(t, err)
	return s, a
}

func (s *server) on(pattern string, status int, header map[string]string, body string) {
	method, path, _ := strings.Cut(pattern, " ")
	s.mux.HandleFunc(method+" "+cluster+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for k, v := range header {
			w.Header().Set(k, strings.ReplaceAll(v, "SERVER", s.URL))
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "SERVER", s.URL)) // the test fails anyway if the response is not read
	})
}

func poolJSON(name, state string, count int, etag string) string {
	return fmt.Sprintf(
		`{"name":%q,"properties":{"count":%d,"vmSize":"Standard_NC24ads_A100_v4","provisioningState":%q,"eTag":%q,"nodeImageVersion":"x","currentOrchestratorVersion":"1.36.1","tags":{"kaito.sh_managed-by":"gpu-provisioner","kaito.sh_pool-key":"aaaaaaaa","team":"ml"},"osDiskSizeGB":128}}`,
		name,
		count,
		state,
		etag,
	)
}
