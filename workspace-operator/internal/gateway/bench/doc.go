// SPDX-License-Identifier: Apache-2.0

// Package bench measures the gateway's program beside two references in the same run: calling the engine directly, and
// a bare httputil.ReverseProxy. Engine, bare proxy and gateway are processes of their own, so that what one costs can
// be told from what the others do, and so that no garbage collection is shared. The engine is a Go server that answers
// at once: a real one takes milliseconds at least, whose scatter would hide the gateway's part.
//
// Requests are sent at a fixed rate whether or not answers keep up, and each is timed from the moment when it was due.
// Everything stays on loopback and ends by itself.
//
//	go test ./internal/gateway/bench -v -args -rate=2000 -rounds=10 -slice=1s -streams=500 -duration=10m -slow=10000 -strict
//
// Without arguments the same is done in small, and only what does not depend on the machine's speed can fail.
package bench
