// SPDX-License-Identifier: Apache-2.0

// Package bench compares downloads by the runner and by curl in the same run, over a connection with latency and loss:
// with one range request at a time, and with several.
//
// A proxy on loopback simulates the connection. It limits the bytes in flight to a TCP congestion window, which grows
// by slow start and then by one segment per round trip, and halves at each lost segment. The kernel's netem would need
// root and a kernel with that module. The server uses TLS and HTTP/2, like the servers of models.
//
//	go test ./internal/runner/fetch/bench -v -args -size=100663296 -rounds=3 -strict
package bench
