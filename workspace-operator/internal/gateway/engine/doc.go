// SPDX-License-Identifier: Apache-2.0

// Package engine holds the test of the gateway's program in front of a real vLLM: make test-engine.
package engine
