// SPDX-License-Identifier: Apache-2.0

// Package gateway is the HTTP server that stands in front of an inference engine in a serving pod.
//
// It answers the one-line call POST /chat, passes the inference part of OpenAI's API through to the engine chunk by
// chunk, and keeps everything else that an engine listens for (pausing, weight updates, remote procedure calls, adapter
// loading) out of reach. It bounds what a client can cost: body size, time, concurrency, a queue.
package gateway
