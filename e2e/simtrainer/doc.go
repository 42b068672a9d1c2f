// SPDX-License-Identifier: Apache-2.0

// Package simtrainer is a trainer that trains nothing: it takes the place of the tuning-operator's trainer and keeps to
// what that one promises (tuning-operator/README.md): the environment, checkpoints with a marker, progress lines and
// GET /progress, the termination message, the exit codes, and an adapter in PEFT's form.
package simtrainer
