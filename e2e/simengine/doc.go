// SPDX-License-Identifier: Apache-2.0

// Package simengine is a simulated inference engine: vLLM's HTTP interface without a model and without a GPU.
//
// What it says is determined by what it is asked and by which model or adapter is asked, so that a test can tell who
// answered: "[phi-3 + adapter sha256:4f53…] You asked: what is Kaito?". Its routes, errors and metrics carry vLLM's
// names (vLLM 0.11 and later, V1 engine), and its routes for administration have an effect, so that a gateway which
// lets them through is caught.
package simengine
