// SPDX-License-Identifier: Apache-2.0

// Package bench compares the gateway with two references in the same run: direct calls of the engine, and a plain
// httputil.ReverseProxy. Engine, proxy and gateway are separate processes, so that their CPU time and garbage
// collection are measured separately. The engine is a Go server that answers immediately: the latency of a real one,
// some milliseconds, varies more than the gateway adds.
//
// Requests are sent at a fixed rate, independent of answers, and each is timed from its scheduled start. All
// connections are on loopback.
//
//	go test ./internal/gateway/bench -v -args -rate=2000 -rounds=10 -slice=1s -streams=500 \
//	  -duration=10m -slow=10000 -strict
//
// Without arguments, the benchmark is short, and only checks that do not depend on the machine's speed can fail.
package bench
