// SPDX-License-Identifier: Apache-2.0

// Package invariant checks the promises of the gpu-provisioner's design, which must hold after every step of every
// scenario, also when the process is killed between two calls. It only evaluates the state that it is given.
package invariant
