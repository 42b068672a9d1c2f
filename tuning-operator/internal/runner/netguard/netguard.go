// SPDX-License-Identifier: Apache-2.0

// Package netguard keeps the runner's downloads from being used to reach what the cluster's network, and not the
// user, may reach: the node's metadata service, the API server, other tenants' pods.
//
// The check is made on the address that is about to be connected to, after name resolution, in the dialer's Control
// hook: a name that resolves to a public address when it is looked at and to a private one when it is dialled gains
// nothing, and neither does a redirect.
package netguard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Policy says which addresses may be dialled. The zero value allows public addresses only.
type Policy struct {
	// AllowPrivate allows RFC 1918, unique-local and carrier-grade NAT addresses: a registry behind a private endpoint.
	AllowPrivate bool
	// AllowLocal allows loopback and link-local addresses as well: a mirror on the same host, tests.
	AllowLocal bool
}

// DeniedError is returned when a connection is refused by the policy.
type DeniedError struct {
	Address string
	Kind    string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("refusing to connect to %s: it is a %s address; only public addresses may be downloaded from "+
		"(the operator's flag --allow-private-sources, the runner's --allow-private, permits others)", e.Address, e.Kind)
}

// local are ranges that mean this host or this network whatever the policy on private networks is.
var local = prefixes(
	"0.0.0.0/8",          // "this network", RFC 791
	"168.63.129.16/32",   // Azure's WireServer, a public-looking address of the host's fabric
	"100.100.100.200/32", // Alibaba Cloud's metadata service
	"fd00:ec2::254/128",  // EC2's metadata service over IPv6
)

// special are ranges that no public download lives in; sources: IANA's IPv4 and IPv6 special-purpose registries.
var special = prefixes(
	"100.64.0.0/10", // carrier-grade NAT, RFC 6598: AKS uses it for pods in some network modes
	"192.0.0.0/24",  // IETF protocol assignments
	"198.18.0.0/15", // benchmarking
	"240.0.0.0/4",   // reserved
	"fec0::/10",     // site-local, deprecated
	"2001:db8::/32", // documentation
	"100::/64",      // discard
)

// embedded are IPv6 ranges that carry an IPv4 address which is what is reached in the end.
var embedded = []struct {
	prefix netip.Prefix
	offset int // of the IPv4 address in the 16 bytes
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // local-use NAT64, RFC 8215
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4, RFC 3056
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible, deprecated
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
	case ip.IsPrivate(), within(ip, special):
		if !p.AllowPrivate {
			return deny("private or reserved")
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
	return nil
}

// control is net.Dialer's hook: it sees the resolved address of every attempt.
func (p Policy) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &DeniedError{Address: address, Kind: "malformed"}
	}
	return p.Check(ap.Addr())
}

// Transport returns a transport whose connections obey the policy. A proxy from the environment is used only where
// private addresses are allowed: behind a proxy the address that is reached can't be seen from here.
func (p Policy) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: p.control}
	// HTTP/1.1 only: by HTTP/2 all range requests of a file share one connection, and with it one congestion window, so
	// that they are no faster than one (see package fetch/bench).
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

// maxRedirects is browsers' order of magnitude; a HuggingFace download takes two.
const maxRedirects = 10

// CheckRedirect is for http.Client: it refuses a step down from https, strips the referrer, and strips credentials
// whenever the host changes, subdomains included (net/http keeps them for subdomains). The address itself is checked at
// the dial.
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
	// net/http sends the whole address that redirects as the referrer: the signature in its query is not for the next
	// host.
	req.Header.Del("Referer")
	if req.URL.Host != first.URL.Host {
		req.Header.Del("Authorization")
		req.Header.Del("Cookie")
	}
	return nil
}
