// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Group is the process' place in an engine of several nodes. Its processes meet once, at the leader's address. As with
// vLLM, a process that was started again is not taken in:
//
//   - A leader that was started again waits for ever for followers that met its predecessor.
//   - A follower stays when its leader is gone, and one that was started again waits for ever.
//   - A leader that has lost a follower accepts requests, and answers none. Its health does not show it (vLLM 0.32.0,
//     two processes on the CPU: make test-engine).
type Group struct {
	// Nodes is the number of processes; 0 or 1: there is one.
	Nodes int
	// Rank is this process' number; 0 leads.
	Rank int
	// Address is where the leader is met.
	Address string
	// Headless processes answer no requests. All but the leader must be.
	Headless bool
}

// dialPause is the time between two attempts to meet the leader.
const dialPause = 200 * time.Millisecond

// validate refuses a rank that is out of range, as vLLM does, and a follower that would answer requests.
func (g Group) validate() error {
	switch {
	case g.Nodes > 1 && (g.Rank < 0 || g.Rank >= g.Nodes):
		return fmt.Errorf("argument --node-rank: be between 0 and %d; got %d", g.Nodes-1, g.Rank)
	case g.Nodes > 1 && g.Headless != (g.Rank > 0):
		return fmt.Errorf("rank %d of %d with headless=%t: all ranks but 0 must be headless", g.Rank, g.Nodes, g.Headless)
	}
	return nil
}

// Meet returns when all processes have met. lost is closed when a follower of this leader is gone.
func (g Group) Meet(ctx context.Context) (lost <-chan struct{}, err error) {
	if g.Rank == 0 {
		return g.gather(ctx)
	}
	return nil, g.join(ctx)
}

func (g Group) gather(ctx context.Context) (<-chan struct{}, error) {
	_, port, err := net.SplitHostPort(g.Address)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // what waits hears of it
	defer stop()
	members := map[int]net.Conn{}
	for len(members) < g.Nodes-1 {
		conn, err := listener.Accept()
		if err != nil {
			return nil, err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		rank, numberErr := strconv.Atoi(strings.TrimSpace(line))
		if err == nil && numberErr == nil {
			members[rank] = conn
		}
	}
	lost := make(chan struct{})
	gone := make(chan struct{}, len(members))
	for _, conn := range members {
		if _, err := conn.Write([]byte("met\n")); err != nil {
			return nil, err
		}
		go func() {
			_, _ = conn.Read(make([]byte, 1)) // a follower says nothing more
			gone <- struct{}{}
		}()
	}
	go func() {
		<-gone
		close(lost)
	}()
	return lost, nil
}

func (g Group) join(ctx context.Context) error {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", g.Address)
		if err == nil {
			return g.greet(ctx, conn)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(dialPause):
		}
	}
}

// greet keeps the connection, also when it is of use no more.
func (g Group) greet(ctx context.Context, conn net.Conn) error {
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // what waits hears of it
	if _, err := fmt.Fprintln(conn, g.Rank); err != nil {
		return err
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		<-ctx.Done() // the leader has gone, and nothing comes of the group
		return ctx.Err()
	}
	return nil
}
