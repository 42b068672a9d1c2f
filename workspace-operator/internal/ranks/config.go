// SPDX-License-Identifier: Apache-2.0

package ranks

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// Exit codes of a supervisor besides the engine's own.
const (
	// ExitPeerEnded means that another rank has ended, and this rank's engine was ended for it (EX_TEMPFAIL of
	// sysexits.h).
	ExitPeerEnded = 75
	// ExitNotStarted means that the engine's program could not be started, as shells have it.
	ExitNotStarted = 127
	// exitSignal is added to the number of the signal that ended the engine, as shells do.
	exitSignal = 128
)

// Config is one rank.
type Config struct {
	// Nodes is the number of ranks, and Rank this one's: 0 is the leader.
	Nodes, Rank int
	// Leader is the host name or IP address of rank 0. The leader itself listens on all addresses.
	Leader string
	// Port is where the leader's supervisor listens.
	Port int
	// Command is the engine's program with its arguments; FollowerArgs are added on all ranks but the leader.
	Command, FollowerArgs []string
	// TerminationLog is the file that the kubelet reads the container's last message from; empty: none is written.
	TerminationLog string
	// Beat is the time between two signs of life, and Silence the time without one after which a rank is lost.
	Beat, Silence time.Duration
	// Retry is the time between two attempts to reach the leader.
	Retry time.Duration
	// EndTimeout is how long an engine may take to end after SIGTERM when another rank has ended.
	EndTimeout time.Duration
}

// DefaultConfig has the times. A node that is gone is noticed within 20 seconds.
func DefaultConfig() Config {
	return Config{Beat: 5 * time.Second, Silence: 20 * time.Second, Retry: 2 * time.Second, EndTimeout: 10 * time.Second}
}

// Validate returns an error that names each wrong value.
func (c Config) Validate() error {
	var errs []error
	wrong := func(flag string, value any, want string) {
		errs = append(errs, fmt.Errorf("--%s is %q: %s", flag, fmt.Sprint(value), want))
	}
	if c.Nodes < 2 {
		wrong("nodes", c.Nodes, "give the number of ranks, at least 2")
	}
	if c.Rank < 0 || c.Rank >= max(c.Nodes, 1) {
		wrong("rank", c.Rank, fmt.Sprintf("give a number from 0 to %d", max(c.Nodes-1, 0)))
	}
	if c.Leader == "" {
		wrong("leader", c.Leader, "give the host name of rank 0")
	}
	if c.Port < 0 || c.Port > 65535 {
		wrong("port", c.Port, "give a TCP port")
	}
	if c.Beat <= 0 || c.Silence <= c.Beat {
		wrong("silence", c.Silence, fmt.Sprintf("give more than --beat, which is %s", c.Beat))
	}
	if len(c.Command) == 0 {
		errs = append(errs, errors.New("no command: give the engine's program and its arguments after --"))
	}
	return errors.Join(errs...)
}

func (c Config) leaderAddress() string { return net.JoinHostPort(c.Leader, strconv.Itoa(c.Port)) }

// command is what this rank runs.
func (c Config) command() []string {
	if c.Rank == 0 {
		return c.Command
	}
	return append(append([]string{}, c.Command...), c.FollowerArgs...)
}
