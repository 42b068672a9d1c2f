// SPDX-License-Identifier: Apache-2.0

// Package bench measures fetching beside curl in the same run, over a connection with latency and loss: with one range
// request at a time, and with several.
//
// The line is simulated by a proxy on loopback that lets each connection have a TCP congestion window in flight: it
// opens by slow start and then by one segment a round trip, and halves at each lost segment. (The kernel's netem would
// be the same for all three too, but needs root and a kernel that has it.) The server speaks TLS and HTTP/2, as those
// that models come from do.
//
//	go test ./internal/runner/fetch/bench -v -args -size=100663296 -rounds=3 -strict
package bench
