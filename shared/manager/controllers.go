// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/config"
)

// Controllers returns what all controllers have in common. They use the queue of client-go: the priority queue of
// controller-runtime 0.24 can deadlock when it shuts down, so that a manager ends only after its grace period of 30 s
// and holds its lease until then (kubernetes-sigs/controller-runtime issue 3538, corrected in 0.25).
func Controllers() config.Controller { return config.Controller{UsePriorityQueue: ptr.To(false)} }
