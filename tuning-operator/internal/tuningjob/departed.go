// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxDeparted bounds the departed pods of one TuningJob between two passes.
const maxDeparted = 64

// departed keeps failed pods that were deleted before a pass could record how they ended. It only adds details to the
// status: no decision depends on it, and it is empty after a restart of the operator.
type departed struct {
	mu   sync.Mutex
	pods map[types.NamespacedName][]corev1.Pod
}

func (d *departed) add(key types.NamespacedName, pod *corev1.Pod) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pods[key]) < maxDeparted {
		d.pods[key] = append(d.pods[key], *pod)
	}
}

func (d *departed) of(key types.NamespacedName) []corev1.Pod {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.pods[key])
}

// drop removes the n oldest pods.
func (d *departed) drop(key types.NamespacedName, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pods[key] = d.pods[key][min(n, len(d.pods[key])):]; len(d.pods[key]) == 0 {
		delete(d.pods, key)
	}
}

func (d *departed) forget(key types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pods, key)
}
