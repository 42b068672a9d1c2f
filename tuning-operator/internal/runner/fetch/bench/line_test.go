// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// segment is the payload of an Ethernet packet in bytes.
const segment = 1460

// line describes each connection through the proxy.
type line struct {
	roundTrip time.Duration
	// loseOneIn is the number of segments to the client per lost one; 0: none is lost. Lost segments are evenly spaced on
	// each connection, so that equal transfers lose equally many.
	loseOneIn int
	// window limits the segments in flight on one connection: the buffer of the receiver.
	window int
}

// proxy forwards connections to a target over a line.
type proxy struct {
	line
	target   string
	listener net.Listener
	carried  sync.WaitGroup
}

// newProxy returns a proxy that listens on loopback until the test ends.
func newProxy(t *testing.T, l line, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{line: l, target: target, listener: ln}
	p.carried.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			p.carried.Go(func() { p.carry(client) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.carried.Wait()
	})
	return p
}

func (p *proxy) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	time.Sleep(p.roundTrip) // of the handshake
	var both sync.WaitGroup
	both.Go(func() { p.oneWay(server, client, false) })
	both.Go(func() { p.oneWay(client, server, true) })
	both.Wait()
}

// delayed is data in flight.
type delayed struct {
	data   []byte
	arrive time.Time
}

// oneWay forwards data after half a round trip, optionally with a congestion window. Requests are too short to need
// one.
func (p *proxy) oneWay(to, from net.Conn, congested bool) {
	way := make(chan delayed, 1<<14)
	var arrived sync.WaitGroup
	arrived.Go(func() {
		defer func() { _ = to.Close() }()
		for d := range way {
			time.Sleep(time.Until(d.arrive))
			if _, err := to.Write(d.data); err != nil {
				_ = from.Close()
			}
		}
	})
	defer arrived.Wait()
	defer close(way)
	c := congestion{line: p.line, window: 10, threshold: p.window} // RFC 6928's initial window
	for {
		limit := p.window
		if congested {
			limit = c.window
		}
		data := make([]byte, limit*segment)
		n, err := from.Read(data)
		began := time.Now()
		for n > 0 && err == nil && n < len(data) { // the other data of this round trip
			_ = from.SetReadDeadline(began.Add(p.roundTrip))
			var more int
			more, err = from.Read(data[n:])
			n += more
		}
		_ = from.SetReadDeadline(time.Time{})
		if n > 0 {
			way <- delayed{data[:n], began.Add(p.roundTrip / 2)}
		}
		var timeout net.Error
		if err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
			return
		}
		if !congested {
			continue
		}
		time.Sleep(time.Until(began.Add(p.roundTrip)))
		c.grow((n + segment - 1) / segment)
	}
}

// congestion is the window of a connection in segments.
type congestion struct {
	line
	window, threshold int
	sent              int
}

// grow updates the window after a round trip with the given number of sent segments.
func (c *congestion) grow(sent int) {
	before := c.sent
	c.sent += sent
	switch {
	case c.loseOneIn > 0 && c.sent/c.loseOneIn > before/c.loseOneIn:
		c.window = max(c.window/2, 2)
		c.threshold = c.window
	case sent < c.window: // the window was not full
	case c.window < c.threshold:
		c.window = min(2*c.window, c.line.window)
	default:
		c.window = min(c.window+1, c.line.window)
	}
}
