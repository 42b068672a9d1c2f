// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// GPUTolerations returns the tolerations of a pod that runs on GPU nodes, followed by each toleration of extra that is
// not one of them.
func GPUTolerations(extra []corev1.Toleration) []corev1.Toleration {
	all := []corev1.Toleration{
		{
			Key:      kaitov1alpha1.TaintKeySKU,
			Operator: corev1.TolerationOpEqual,
			Value:    kaitov1alpha1.TaintValueGPU,
			Effect:   corev1.TaintEffectNoSchedule,
		},
		{
			Key:      kaitov1alpha1.TaintKeySpot,
			Operator: corev1.TolerationOpEqual,
			Value:    kaitov1alpha1.TaintValueSpot,
			Effect:   corev1.TaintEffectNoSchedule,
		},
		// The taint of GPU nodes that AKS, the GPU Operator and other installers set.
		{
			Key:      string(kaitov1alpha1.ResourceNvidiaGPU),
			Operator: corev1.TolerationOpExists,
			Effect:   corev1.TaintEffectNoSchedule,
		},
	}
	for _, t := range extra {
		if !slices.ContainsFunc(all, func(known corev1.Toleration) bool { return known.MatchToleration(&t) }) {
			all = append(all, t)
		}
	}
	return all
}
