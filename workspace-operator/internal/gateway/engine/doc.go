// SPDX-License-Identifier: Apache-2.0

// Package engine tests rendered pods, and the gateway in them, with a real vLLM: make test-engine.
package engine
