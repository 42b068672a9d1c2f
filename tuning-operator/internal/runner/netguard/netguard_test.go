// SPDX-License-Identifier: Apache-2.0

package netguard_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/tuning-operator/internal/runner/netguard"
)

func TestPolicyByAddress(t *testing.T) {
	strict := netguard.Policy{}
	private := netguard.Policy{AllowPrivate: true}
	local := netguard.Policy{AllowPrivate: true, AllowLocal: true}
	for _, c := range []struct {
		name                             string
		ip                               string
		byStrict, byPrivate, byLocalOpen bool
	}{
		{"a public address", "20.190.128.1", true, true, true},
		{"a public IPv6 address", "2603:1030::1", true, true, true},
		{"loopback", "127.0.0.1", false, false, true},
		{"another loopback", "127.8.9.10", false, false, true},
		{"loopback IPv6", "::1", false, false, true},
		{"loopback mapped into IPv6", "::ffff:127.0.0.1", false, false, true},
		{"unspecified, which Linux connects to itself", "0.0.0.0", false, false, true},
		{"this network", "0.1.2.3", false, false, true},
		{"the metadata service", "169.254.169.254", false, false, true},
		{"the metadata service mapped into IPv6", "::ffff:169.254.169.254", false, false, true},
		{"the metadata service by NAT64", "64:ff9b::a9fe:a9fe", false, false, true},
		{"the metadata service by 6to4", "2002:a9fe:a9fe::1", false, false, true},
		{"loopback, IPv4-compatible", "::7f00:1", false, false, true},
		{"Azure's WireServer", "168.63.129.16", false, false, true},
		{"Azure's WireServer mapped into IPv6", "::ffff:168.63.129.16", false, false, true},
		{"carrier-grade NAT mapped into IPv6", "::ffff:100.64.0.1", false, true, true},
		{"EC2's metadata over IPv6", "fd00:ec2::254", false, false, true},
		{"link-local IPv6", "fe80::1", false, false, true},
		{"a pod", "10.244.0.7", false, true, true},
		{"172.16/12", "172.31.255.255", false, true, true},
		{"192.168/16", "192.168.1.1", false, true, true},
		{"carrier-grade NAT", "100.64.0.1", false, true, true},
		{"unique-local", "fd12::1", false, true, true},
		{"a private address by NAT64", "64:ff9b::0a00:0001", false, true, true},
		{"a documentation network", "203.0.113.1", false, true, true},
		{"benchmarking", "198.18.0.1", false, true, true},
		{"reserved for future use", "240.0.0.1", false, true, true},
		{"a reserved IPv6 range", "5f00::1", false, true, true},
		{"Teredo, which embeds an IPv4 address", "2001:0:a9fe:a9fe::1", false, true, true},
		{"site-local IPv6, deprecated", "fec0::1", false, true, true},
		{"multicast", "224.0.0.1", false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ip := netip.MustParseAddr(c.ip)
			assert.Equal(t, c.byStrict, strict.Check(ip) == nil, "strict")
			assert.Equal(t, c.byPrivate, private.Check(ip) == nil, "private allowed")
			assert.Equal(t, c.byLocalOpen, local.Check(ip) == nil, "local allowed")
		})
	}
}

func get(t *testing.T, p netguard.Policy, url string, header http.Header) (string, error) {
	t.Helper()
	c := &http.Client{Transport: p.Transport(), CheckRedirect: netguard.CheckRedirect}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(body), nil
}

func TestDialIsRefusedAfterNameResolution(t *testing.T) {
	reached := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)

	_, err = get(t, netguard.Policy{}, "http://localhost:"+port, nil)
	var denied *netguard.DeniedError
	require.ErrorAs(t, err, &denied, "a name does not bypass the check")
	assert.Equal(t, "loopback", denied.Kind)
	assert.False(t, reached, "no byte reached the server")
}

func TestRedirectToAnotherHostDropsCredentials(t *testing.T) {
	var got string
	target := httptest.NewServer(
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }),
	)
	defer target.Close()
	first := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusFound))
	defer first.Close()

	_, err := get(
		t, netguard.Policy{AllowPrivate: true, AllowLocal: true}, first.URL, http.Header{"Authorization": {"Bearer secret"}},
	)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestRedirectRules(t *testing.T) {
	request := func(url string) *http.Request {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
		require.NoError(t, err)
		return r
	}
	t.Run("leaving https is refused", func(t *testing.T) {
		err := netguard.CheckRedirect(request("http://example.com/x"), []*http.Request{request("https://example.com/x")})
		assert.ErrorContains(t, err, "leaves https")
	})
	t.Run("an endless chain is refused", func(t *testing.T) {
		var via []*http.Request
		for range 10 {
			via = append(via, request("https://example.com/x"))
		}
		assert.ErrorContains(t, netguard.CheckRedirect(request("https://example.com/x"), via), "10 redirects")
	})
	t.Run("the same host keeps its credentials", func(t *testing.T) {
		r := request("https://example.com/y")
		r.Header.Set("Authorization", "Bearer x")
		require.NoError(t, netguard.CheckRedirect(r, []*http.Request{request("https://example.com/x")}))
		assert.NotEmpty(t, r.Header.Get("Authorization"))
	})
	t.Run("a subdomain does not inherit them", func(t *testing.T) {
		r := request("https://cdn.example.com/y")
		r.Header.Set("Authorization", "Bearer x")
		require.NoError(t, netguard.CheckRedirect(r, []*http.Request{request("https://example.com/x")}))
		assert.Empty(t, r.Header.Get("Authorization"))
	})
}

func TestDeniedErrorNamesTheRemedy(t *testing.T) {
	err := netguard.Policy{}.Check(netip.MustParseAddr("10.0.0.1"))
	require.Error(t, err)
	assert.ErrorContains(t, err, "10.0.0.1")
	assert.ErrorContains(t, err, "--allow-private")
	var denied *netguard.DeniedError
	assert.ErrorAs(t, err, &denied)
}
