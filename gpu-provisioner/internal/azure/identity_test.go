// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/prometheus/client_golang/prometheus"
	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"

	"kaito.sh/shared/test/eventually"
)

// credential issues tokens, or returns the error that the test sets.
type credential struct {
	mu    sync.Mutex
	err   error
	asked int
}

func (c *credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return azcore.AccessToken{Token: "secret"}, c.err
}

func (c *credential) fails(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func refusedByEntra(t *testing.T, text string) error {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "https://login.example/token", nil)
	require.NoError(t, err)
	return &azidentity.AuthenticationFailedError{RawResponse: &http.Response{
		StatusCode: http.StatusUnauthorized,
		Request:    request,
		Body:       io.NopCloser(strings.NewReader(`{"error_description":"` + text + `"}`)),
	}}
}

func TestReadinessFollowsTheIdentity(t *testing.T) {
	c := &credential{}
	c.fails(
		refusedByEntra(
			t, "AADSTS700213: No matching federated identity record found for presented assertion subject 'x'. Trace ID: 1",
		),
	)
	clk, metrics := testclock.NewFakeClock(time.Unix(1000, 0)), NewMetrics(prometheus.NewRegistry())
	identity := newIdentity(c, "scope", metrics)
	identity.clock = clk
	recovered := make(chan struct{}, 10)
	identity.OnRecovered(func() { recovered <- struct{}{} })
	assert.ErrorIs(t, identity.Ready(nil), errUnchecked, "not before the first check")

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- identity.Start(ctx) }()
	waiting := func() { require.Eventually(t, clk.HasWaiters, eventually.Short, eventually.Tick) }
	waiting()
	err := identity.Ready(nil)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "\n", "one line")
	assert.Contains(t, err.Error(), "AADSTS700213")
	assert.Contains(t, err.Error(), "To fix: check the workload identity federation")
	assert.Zero(t, promtest.ToFloat64(metrics.identity))

	c.fails(nil)
	clk.Step(identityRetry)
	<-recovered
	waiting()
	assert.NoError(t, identity.Ready(nil), "recovered, without a restart")
	assert.InDelta(t, 1, promtest.ToFloat64(metrics.identity), 0)

	c.fails(errors.New("dial tcp: lookup login.example: no such host"))
	clk.Step(identityEvery)
	waiting()
	assert.NoError(t, identity.Ready(nil), "that Entra cannot be reached says nothing about the identity")

	cancel()
	assert.NoError(t, <-done)
}

func TestIdentityWithoutReadAccessIsNotReady(t *testing.T) {
	s, a := newServer(t)
	status := http.StatusForbidden
	s.mux.HandleFunc("GET "+cluster, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(
			w,
			`{"error":{"code":"AuthorizationFailed","message":"no action 'Microsoft.ContainerService/managedClusters/read'"}}`,
		) // the test fails anyway if the response is not read
	})
	identity := a.Identity(testclock.NewFakeClock(time.Unix(1000, 0)))
	require.True(t, identity.checkTokens(t.Context()))
	require.NoError(t, identity.Ready(nil))
	_, err := a.Cluster(t.Context())
	require.Error(t, err)
	assert.ErrorContains(t, identity.Ready(nil), "az role assignment create")
	status = http.StatusOK
	_, err = a.Cluster(t.Context())
	require.NoError(t, err)
	assert.NoError(t, identity.Ready(nil))
}

func TestCredentialIsBuiltAgainAfterAFailure(t *testing.T) {
	var made []*credential
	r := &renewing{build: func() (azcore.TokenCredential, error) {
		made = append(made, &credential{})
		return made[len(made)-1], nil
	}}
	for range 2 {
		_, err := r.GetToken(t.Context(), policy.TokenRequestOptions{})
		require.NoError(t, err)
	}
	require.Len(t, made, 1, "kept while it works, with the tokens that it has cached")
	made[0].fails(errors.New("the token file is old"))
	_, err := r.GetToken(t.Context(), policy.TokenRequestOptions{})
	require.Error(t, err)
	_, err = r.GetToken(t.Context(), policy.TokenRequestOptions{})
	require.NoError(t, err)
	assert.Len(t, made, 2)
}

func TestPoolsOfAnotherClusterAreNotOurs(t *testing.T) {
	s, a := newServer(t)
	a.Serve("uid-1")
	s.on("PUT /agentPools/gaaaaaaaa0", 412, nil, `{"error":{"code":"PreconditionFailed","message":"exists"}}`)
	_, _ = a.CreatePool(
		t.Context(), "gaaaaaaaa0", Spec{Count: 1, Tags: map[string]string{"a": "b"}},
	) // what was sent is looked at
	assert.Contains(t, s.bodies["PUT /agentPools/gaaaaaaaa0"], `"kaito.sh_cluster-uid":"uid-1"`)

	pool := poolJSON("gaaaaaaaa0", "Succeeded", 1, "1")
	s.on("GET /agentPools", 200, nil, `{"value":[`+pool+`,`+
		strings.Replace(pool, `"team":"ml"`, `"kaito.sh_cluster-uid":"uid-1"`, 1)+`,`+
		strings.Replace(pool, `"team":"ml"`, `"kaito.sh_cluster-uid":"uid-2"`, 1)+`]}`)
	pools, err := a.Pools(t.Context())
	require.NoError(t, err)
	require.Len(t, pools, 3)
	assert.False(t, pools[0].Ours(), "it names no cluster")
	assert.True(t, pools[1].Ours())
	assert.False(t, pools[2].Ours(), "it belongs to another cluster's operator")
}
