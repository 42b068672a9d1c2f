// SPDX-License-Identifier: Apache-2.0

package ranks

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// follow connects to the leader until it says that all ranks are there, and returns the connection. The error is that
// of ctx.
func follow(ctx context.Context, c Config, log *slog.Logger) (*link, error) {
	retry := time.NewTicker(c.Retry)
	defer retry.Stop()
	for last := ""; ; {
		k, err := connect(ctx, c)
		if err == nil {
			return k, nil
		}
		if text := err.Error(); text != last {
			log.Info("Waiting for rank 0", "leader", c.leaderAddress(), "error", text)
			last = text
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("stopped while waiting for rank 0: %w", context.Cause(ctx))
		case <-retry.C:
		}
	}
}

// connect says hello and waits for the start.
func connect(ctx context.Context, c Config) (*link, error) {
	conn, err := (&net.Dialer{Timeout: c.Silence}).DialContext(ctx, "tcp", c.leaderAddress())
	if err != nil {
		return nil, err
	}
	k := newLink(conn, c)
	stop := context.AfterFunc(ctx, k.close)
	defer stop()
	if err := k.start(c); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (l *link) start(c Config) error {
	if err := l.write(fmt.Sprintf(helloFormat, c.Rank, c.Nodes)); err != nil {
		return err
	}
	go l.keepAlive()
	line, err := l.read()
	if err != nil {
		return err
	}
	if line != lineStart {
		return fmt.Errorf("rank 0 answered: %s", strings.TrimPrefix(line, lineRefused))
	}
	return nil
}

// watch returns a channel that has the reason when the leader is lost.
func (l *link) watch() <-chan error {
	lost := make(chan error, 1)
	go func() {
		_, err := l.read() // the leader says nothing more
		if err == nil {
			err = fmt.Errorf("rank 0 spoke after the start")
		}
		lost <- fmt.Errorf("rank 0: %w", err)
	}()
	return lost
}
