// SPDX-License-Identifier: Apache-2.0

package ranks

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
)

// spareConnections is how many connections the leader holds besides those of its followers: a follower that was started
// again connects before its old connection is found to be dead.
const spareConnections = 16

// leader is the supervisor of rank 0.
type leader struct {
	config   Config
	log      *slog.Logger
	listener net.Listener
	// complete is closed when all ranks are there. lost has the first rank that was lost afterwards, and why.
	complete chan struct{}
	lost     chan error

	mu      sync.Mutex
	members map[int]*link
	started bool
}

// lead returns the leader, which listens until close.
func lead(ctx context.Context, c Config, log *slog.Logger) (*leader, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(c.Port))
	if err != nil {
		return nil, fmt.Errorf("--port is %d: %w", c.Port, err)
	}
	l := &leader{
		config: c, log: log, listener: listener, complete: make(chan struct{}), lost: make(chan error, 1),
		members: map[int]*link{},
	}
	go l.accept()
	return l, nil
}

func (l *leader) accept() {
	slots := make(chan struct{}, l.config.Nodes+spareConnections)
	for {
		slots <- struct{}{}
		conn, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer func() { <-slots }()
			l.serve(newLink(conn, l.config))
		}()
	}
}

// serve follows one connection to its end.
func (l *leader) serve(k *link) {
	defer k.close()
	hello, err := k.read()
	if err != nil {
		return
	}
	rank, err := l.check(hello)
	if err != nil {
		l.log.Warn("A connection was refused", "from", k.conn.RemoteAddr().String(), "error", err)
		_ = k.write(lineRefused + err.Error()) // it may be gone
		return
	}
	if !l.join(rank, k) {
		return
	}
	go k.keepAlive()
	_, err = k.read() // a follower says nothing more
	l.leave(rank, k, err)
}

// check returns the rank that a follower's first line names.
func (l *leader) check(hello string) (int, error) {
	var rank, nodes int
	if _, err := fmt.Sscanf(hello, helloFormat, &rank, &nodes); err != nil {
		return 0, fmt.Errorf("%.40q is not the first line of a rank", hello)
	}
	if nodes != l.config.Nodes || rank < 1 || rank >= nodes {
		return 0, fmt.Errorf("rank %d of %d is not one of the %d ranks of this server", rank, nodes, l.config.Nodes)
	}
	return rank, nil
}

// join adds a follower. One that is there already was started again: before the start its new connection counts, after
// it the group has lost a rank.
func (l *leader) join(rank int, k *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started {
		l.lose(fmt.Errorf("rank %d was started again", rank))
		return false
	}
	if old := l.members[rank]; old != nil {
		old.close()
	}
	l.members[rank] = k
	l.log.Info("A rank is there", "rank", rank, "ranks", len(l.members)+1, "nodes", l.config.Nodes)
	if len(l.members) < l.config.Nodes-1 {
		return true
	}
	l.started = true
	for rank, member := range l.members {
		if err := member.write(lineStart); err != nil {
			l.lose(fmt.Errorf("rank %d: %w", rank, err))
		}
	}
	close(l.complete)
	return true
}

func (l *leader) leave(rank int, k *link, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.members[rank] != k {
		return // another connection took its place
	}
	if l.started {
		l.lose(fmt.Errorf("rank %d: %w", rank, err))
		return
	}
	delete(l.members, rank)
	l.log.Info("A rank has gone", "rank", rank, "error", err)
}

// lose notes the first loss.
func (l *leader) lose(err error) {
	select {
	case l.lost <- err:
	default:
	}
}

// gather waits until all ranks are there.
func (l *leader) gather(ctx context.Context) error {
	l.log.Info("Waiting for the other ranks", "missing", l.missing(), "nodes", l.config.Nodes)
	select {
	case <-l.complete:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped while waiting for ranks %s: %w", l.missing(), context.Cause(ctx))
	}
}

// missing names the ranks that are not there.
func (l *leader) missing() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for rank := 1; rank < l.config.Nodes; rank++ {
		if l.members[rank] == nil {
			out = append(out, strconv.Itoa(rank))
		}
	}
	return strings.Join(out, ", ")
}

// close ends all connections, by which the followers hear that the group has ended.
func (l *leader) close() {
	_ = l.listener.Close() // it has no data
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.members {
		k.close()
	}
}
