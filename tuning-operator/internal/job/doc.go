// SPDX-License-Identifier: Apache-2.0

// Package job renders a TuningJob into the objects that run it. It is pure: the same input gives the same names and the
// same bytes, so that a repeated creation is harmless.
//
// The containers of the pod run one after the other: fetch (fetches the model and the data, checks the data, and asks
// the registry whether the adapter may be pushed), train, push. Fetch and train are init containers, so that the pod
// ends and its GPU is released as soon as one of them fails. Each container writes its result to its termination
// message.
package job
