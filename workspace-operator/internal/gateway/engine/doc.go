// SPDX-License-Identifier: Apache-2.0

// Package engine tests the gateway with a real vLLM: make test-engine.
package engine
