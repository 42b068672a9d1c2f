// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
)

func TestEntraAcceptsOnlyTheFederatedToken(t *testing.T) {
	key := newKey(t)
	strict := func(o *fakeazure.Options) {
		o.Subject, o.Issuer = subject, "https://oidc.example/cluster"
		o.Keys = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "cluster", Algorithm: "ES256"}}}
	}
	cases := []struct {
		name, token, says string
	}{
		{name: "as it should be", token: federatedToken(t, key, nil)},
		{
			"another audience",
			federatedToken(t, key, func(c *jwt.Claims) { c.Audience = jwt.Audience{"https://kubernetes.default.svc"} }),
			"AADSTS700212",
		},
		{
			"another subject",
			federatedToken(t, key, func(c *jwt.Claims) { c.Subject = "system:serviceaccount:other:default" }),
			"AADSTS700213",
		},
		{
			"another issuer",
			federatedToken(t, key, func(c *jwt.Claims) { c.Issuer = "https://elsewhere.example" }),
			"AADSTS700211",
		},
		{
			"expired",
			federatedToken(t, key, func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Minute)) }),
			"AADSTS700024",
		},
		{"without an expiry", federatedToken(t, key, func(c *jwt.Claims) { c.Expiry = nil }), "AADSTS700024"},
		{"another key", federatedToken(t, newKey(t), nil), "AADSTS50013"},
		{"no JWT", "secret", "AADSTS50027"},
	}
	a := newAzure(t, strict)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client := newSDK(t, a.server, c.token)
			_, err := client.clusters.Get(t.Context(), a.group(), a.name(), nil)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, c.says)
		})
	}
	assert.Equal(t, 1, a.server.State().Calls["getCluster"], "ARM was reached once")
}

func TestARMRequiresEntrasToken(t *testing.T) {
	a := newAzure(t, nil)
	o := a.server.Options()
	request, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodGet,
		a.server.ARMEndpoint()+"/subscriptions/"+o.SubscriptionID+
			"/resourceGroups/"+o.ResourceGroup+"/providers/Microsoft.ContainerService/managedClusters/"+o.ClusterName+"?api-version=2025-02-01",
		nil,
	)
	require.NoError(t, err)
	for _, authorization := range []string{"", "Bearer made-up"} {
		request.Header.Set("Authorization", authorization)
		response, err := httpClient(t, a.server).Do(request)
		require.NoError(t, err)
		var body struct{ Error struct{ Code string } }
		readJSON(t, response, &body)
		assert.Equal(t, http.StatusUnauthorized, response.StatusCode)
		assert.Equal(t, "InvalidAuthenticationToken", body.Error.Code)
		assert.Contains(
			t,
			response.Header.Get("WWW-Authenticate"),
			`authorization_uri="`+a.server.AuthorityHost()+o.TenantID+`"`,
		)
	}
}

func TestARMRequiresAnAPIVersion(t *testing.T) {
	a := newAzure(t, nil)
	o := a.server.Options()
	response, err := httpClient(
		t, a.server,
	).Get(a.server.ARMEndpoint() + "/subscriptions/" + o.SubscriptionID + "/providers/Microsoft.Compute/skus")
	require.NoError(t, err)
	var body struct{ Error struct{ Code string } }
	readJSON(t, response, &body)
	assert.Equal(t, "MissingApiVersionParameter", body.Error.Code)
}

func TestBrokenFederationIsReportedByEntra(t *testing.T) {
	a := newAzure(t, nil)
	a.server.AddFault(fakeazure.Fault{Kind: "ServerError", Times: 1}) // does not apply to Entra without the verb token
	a.server.AddFault(fakeazure.Fault{Verb: "token", Kind: "FederationBroken", Times: 1})
	_, err := a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	assert.ErrorContains(t, err, "AADSTS700213")
	_, err = a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	refused(t, err, http.StatusInternalServerError, "InternalServerError")
	_, err = a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	require.NoError(t, err)
}
