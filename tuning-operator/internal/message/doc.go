// SPDX-License-Identifier: Apache-2.0

// Package message is the contract between the containers of a tuning pod and the controller: the JSON in each
// container's termination message. The runner and the trainer write it, and the controller reads it.
// tuning-operator/README.md describes the JSON.
package message
