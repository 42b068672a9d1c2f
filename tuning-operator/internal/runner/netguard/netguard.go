// SPDX-License-Identifier: Apache-2.0

package netguard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Policy defines the addresses that may be dialled. The zero value allows public addresses only.
type Policy struct {
	// AllowPrivate allows the private and reserved ranges of IANA's special-purpose registries: a registry behind a
	// private endpoint.
	AllowPrivate bool
	// AllowLocal also allows loopback and link-local addresses: a mirror on the same host, tests.
	AllowLocal bool
}

// DeniedError says that the policy refused a connection.
type DeniedError struct {
	Address string
	Kind    string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf(
		"refusing to connect to %s, a %s address: only public addresses are allowed unless the operator runs with "+
			"--allow-private-sources (the runner's --allow-private)", e.Address, e.Kind,
	)
}

// local are addresses of the host or its fabric besides the loopback and link-local ranges.
var local = prefixes(
	"0.0.0.0/8",          // "this network", RFC 791
	"168.63.129.16/32",   // Azure's WireServer, in a public range
	"100.100.100.200/32", // the metadata service of Alibaba Cloud
	"fd00:ec2::254/128",  // the metadata service of EC2 over IPv6
)

// embedded are IPv6 ranges whose addresses contain an IPv4 address, which is the one that is reached.
var embedded = []struct {
	prefix netip.Prefix
	offset int // of the IPv4 address in the 16 bytes
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // local-use NAT64, RFC 8215
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4, RFC 3056
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible, deprecated
}

// public returns whether ip is outside of the ranges of IANA's special-purpose registries. Package ssrf generates its
// lists from them. All public IPv6 addresses are in 2000::/3.
func public(ip netip.Addr) bool {
	if ip.Is4() {
		return !within(ip, ssrf.IPv4DeniedPrefixes)
	}
	return ssrf.IPv6GlobalUnicast.Contains(ip) && !within(ip, ssrf.IPv6DeniedPrefixes)
}

func prefixes(text ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(text))
	for _, t := range text {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func within(ip netip.Addr, in []netip.Prefix) bool {
	for _, p := range in {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// Check returns a *DeniedError when the policy forbids the address.
func (p Policy) Check(ip netip.Addr) error {
	ip = ip.WithZone("").Unmap()
	deny := func(kind string) error { return &DeniedError{Address: ip.String(), Kind: kind} }
	switch {
	case !ip.IsValid():
		return deny("malformed")
	case ip.IsMulticast():
		return deny("multicast")
	case ip.IsUnspecified(), ip.IsLoopback():
		if !p.AllowLocal {
			return deny("loopback")
		}
		return nil
	case ip.IsLinkLocalUnicast(), within(ip, local):
		if !p.AllowLocal {
			return deny("link-local or host-fabric")
		}
		return nil
	}
	for _, e := range embedded {
		if e.prefix.Contains(ip) {
			raw := ip.As16()
			inner, _ := netip.AddrFromSlice(raw[e.offset : e.offset+4])
			return p.Check(inner)
		}
	}
	if !p.AllowPrivate && !public(ip) {
		return deny("private or reserved")
	}
	return nil
}

// control is the hook of net.Dialer. It gets the resolved address of each connection.
func (p Policy) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &DeniedError{Address: address, Kind: "malformed"}
	}
	return p.Check(ap.Addr())
}

// Transport returns a transport whose connections obey the policy. It uses a proxy from the environment only if private
// addresses are allowed: the addresses that a proxy connects to cannot be checked here.
func (p Policy) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: p.control}
	// HTTP/1.1 only: with HTTP/2 all range requests of a file share one connection and one congestion window, and are as
	// slow as one request (see package fetch/bench).
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	t := &http.Transport{
		DialContext:           dialer.DialContext,
		Protocols:             protocols,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
	}
	if p.AllowPrivate {
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// maxRedirects has the order of magnitude of browsers' limits; a HuggingFace download takes two redirects.
const maxRedirects = 10

// CheckRedirect is the hook of http.Client. It refuses a redirect from https to http, removes the referrer, and removes
// credentials when the host changes, also to a subdomain (net/http keeps them for subdomains). The dialer checks the
// address.
func CheckRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	first := via[0]
	if first.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf(
			"refusing the redirect from %s to %s: it leaves https",
			first.URL.Host,
			req.URL.Scheme+"://"+req.URL.Host,
		)
	}
	// net/http sends the whole redirecting URL as the referrer, with the signature in its query.
	req.Header.Del("Referer")
	if req.URL.Host != first.URL.Host {
		req.Header.Del("Authorization")
		req.Header.Del("Cookie")
	}
	return nil
}
