// SPDX-License-Identifier: Apache-2.0

// Package ranks starts and ends the processes of one engine on several nodes together. Each rank's container runs the
// engine as a child of a supervisor (cmd/ranks). The supervisors of all ranks hold a connection to that of rank 0:
//
//   - An engine starts when all ranks are connected, so that none waits at the engine's rendezvous for a node that has
//     not pulled its image yet.
//   - When an engine ends, or a rank is silent, its connection is lost. All other supervisors then end their engines
//     and exit, and the kubelet starts the containers again.
//
// Without it vLLM does not recover: the other ranks stay in the group that has lost a member, and the one that was
// started again waits for them for ever.
package ranks
