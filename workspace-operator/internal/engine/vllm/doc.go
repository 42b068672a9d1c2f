// SPDX-License-Identifier: Apache-2.0

// Package vllm is the inference engine vLLM: its flags, its command, the start on several nodes, its section of
// inference_config.yaml, and what it logs.
package vllm
