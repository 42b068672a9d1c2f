// SPDX-License-Identifier: Apache-2.0

// Package hub reads the published data of a model that the catalogue does not have: its commit, its config.json and the
// size of its safetensors. It waits for the network, so that reconcilers must not call it: background workers do.
package hub
