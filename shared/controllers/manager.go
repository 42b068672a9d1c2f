// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
)

// NewManager returns a manager whose controllers use the queue of client-go: the priority queue of controller-runtime
// 0.24 can deadlock when it shuts down, so that a manager ends only after its grace period of 30 s and holds its lease
// until then (kubernetes-sigs/controller-runtime issue 3538, corrected in 0.25).
func NewManager(config *rest.Config, options ctrl.Options) (ctrl.Manager, error) {
	options.Controller.UsePriorityQueue = ptr.To(false)
	return ctrl.NewManager(config, options) //nolint:forbidigo // the one place
}
