// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"kaito.sh/shared/trust"
)

func pod() *corev1.PodSpec {
	return &corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "fetch"}},
		Containers:     []corev1.Container{{Name: "engine"}, {Name: "push"}},
	}
}

func TestNamedContainersTrustTheConfigMap(t *testing.T) {
	p := pod()
	trust.Add(p, "authorities-of-ours", "fetch", "push")
	require.Len(t, p.Volumes, 1)
	assert.Equal(t, "authorities-of-ours", p.Volumes[0].ConfigMap.Name)
	assert.True(t, *p.Volumes[0].ConfigMap.Optional, "a namespace without it must still run pods")
	for _, c := range []corev1.Container{p.InitContainers[0], p.Containers[1]} {
		require.Len(t, c.VolumeMounts, 1, c.Name)
		assert.Equal(t, []corev1.EnvVar{{Name: "SSL_CERT_DIR", Value: c.VolumeMounts[0].MountPath}}, c.Env)
		assert.Equal(t, p.Volumes[0].Name, c.VolumeMounts[0].Name)
	}
	assert.Empty(t, p.Containers[0].VolumeMounts, "the engine is not named")
}

func TestNoVolumeWithoutContainers(t *testing.T) {
	p := pod()
	trust.Add(p, "", "fetch")
	assert.Equal(t, pod(), p)
	trust.Add(p, "authorities-of-ours", "fetch-adapter-0")
	assert.Equal(t, pod(), p, "a pod that fetches nothing needs no volume")
}
