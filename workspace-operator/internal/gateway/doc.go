// SPDX-License-Identifier: Apache-2.0

// Package gateway is the HTTP server in front of the inference engine of a serving pod.
//
// It serves POST /chat, and forwards the inference calls of OpenAI's API to the engine, chunk by chunk. Clients cannot
// reach the engine's other endpoints (pausing, weight updates, remote procedure calls, adapter loading). The gateway
// limits body size, time, concurrency and the queue.
package gateway
