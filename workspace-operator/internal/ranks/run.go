// SPDX-License-Identifier: Apache-2.0

package ranks

import (
	"context"
	"fmt"
	"log/slog"
	"os"
)

// Run waits for all ranks, runs the engine, and returns the exit code of the container. When ctx ends, it hands SIGTERM
// to the engine and waits for it. The error is of the configuration, or says why the engine did not start.
func Run(ctx context.Context, c Config, log *slog.Logger) (int, error) {
	if err := c.Validate(); err != nil {
		return 2, err
	}
	if c.Rank == 0 {
		l, err := lead(ctx, c, log)
		if err != nil {
			return 2, err
		}
		defer l.close()
		if err := l.gather(ctx); err != nil {
			log.Info(err.Error())
			return exitSignal + int(sigterm), nil
		}
		return supervise(ctx, c, log, l.lost)
	}
	k, err := follow(ctx, c, log)
	if err != nil {
		log.Info(err.Error())
		return exitSignal + int(sigterm), nil
	}
	defer k.close()
	return supervise(ctx, c, log, k.watch())
}

// supervise runs the engine to its end, or until another rank is lost.
func supervise(ctx context.Context, c Config, log *slog.Logger, lost <-chan error) (int, error) {
	log.Info("All ranks are there: the engine starts", "rank", c.Rank, "nodes", c.Nodes)
	p, err := start(c.command())
	if err != nil {
		return ExitNotStarted, err
	}
	stop := ctx.Done()
	for {
		select {
		case <-stop:
			p.signal(sigterm)
			stop = nil // the kubelet kills what does not end
		case <-p.ended:
			log.Info("The engine has ended", "exitCode", p.exitCode())
			p.kill() // what it has left
			return p.exitCode(), nil
		case reason := <-lost:
			text := fmt.Sprintf("%s. All ranks of a server start again together, so this one was ended", reason)
			log.Info(text)
			p.end(c.EndTimeout)
			return ExitPeerEnded, record(c.TerminationLog, text)
		}
	}
}

// record writes the container's last message.
func record(path, text string) error {
	if path == "" {
		return nil
	}
	// The kubelet creates it, readable for all.
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // it holds no secret
}
