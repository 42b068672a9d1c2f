// SPDX-License-Identifier: Apache-2.0

// Package engineargs has the command-line flags of each pinned release of the inference engine, and reads arguments as
// the engine's own parser does. The tables in data are generated from the engine by `make catalogue`. The
// workspace-operator checks users' configuration with them before a node is rented, and the simulated engine refuses
// with them what the engine refuses.
package engineargs
