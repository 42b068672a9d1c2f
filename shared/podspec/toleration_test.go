// SPDX-License-Identifier: Apache-2.0

package podspec_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"kaito.sh/shared/podspec"
)

func TestGPUTolerations(t *testing.T) {
	t.Parallel()
	tolerated := func(tolerations []corev1.Toleration, key, value string) bool {
		taint := corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffectNoSchedule}
		for i := range tolerations {
			if tolerations[i].ToleratesTaint(log.FromContext(t.Context()), &taint, false) {
				return true
			}
		}
		return false
	}
	gpu := podspec.GPUTolerations(nil)
	assert.True(t, tolerated(gpu, "sku", "gpu"))
	assert.True(t, tolerated(gpu, "kubernetes.azure.com/scalesetpriority", "spot"))
	assert.True(t, tolerated(gpu, "nvidia.com/gpu", "present"))
	assert.False(t, tolerated(gpu, "team", "a"))

	own := corev1.Toleration{Key: "team", Operator: corev1.TolerationOpExists}
	assert.Equal(t, append(gpu, own), podspec.GPUTolerations([]corev1.Toleration{own, gpu[0]}), "one of each")
}
