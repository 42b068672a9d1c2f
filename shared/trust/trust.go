// SPDX-License-Identifier: Apache-2.0

// Package trust has pods believe certificate authorities of the cluster's own: those of a registry, a model hub or a
// mirror that no public authority has signed for.
package trust

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// Usage is the help of the flag that names the ConfigMap, the same for each operator.
const Usage = "ConfigMap, of the namespace that the pods are in, whose files (PEM) are authorities that they trust beside the public ones; where there is none it is left out"

// Folder is where the files of the ConfigMap are in the containers; it is empty where there is no ConfigMap.
const Folder = "/etc/kaito/authorities"

const (
	volume = "authorities"
	// envFolder is read by Go's crypto/x509, in addition to the file of public authorities that the images have.
	envFolder = "SSL_CERT_DIR"
)

// Add has containers, by name, trust the authorities in configMap; empty means the public ones alone.
func Add(pod *corev1.PodSpec, configMap string, containers ...string) {
	if configMap == "" {
		return
	}
	found := false
	for _, all := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range all {
			for _, name := range containers {
				if all[i].Name == name {
					add(&all[i])
					found = true
				}
			}
		}
	}
	if found {
		pod.Volumes = append(
			pod.Volumes,
			corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: configMap},
				// Namespaces that use public sources only have no need of it.
				Optional: ptr.To(true),
			}}},
		)
	}
}

func add(c *corev1.Container) {
	c.Env = append(c.Env, corev1.EnvVar{Name: envFolder, Value: Folder})
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: Folder, ReadOnly: true})
}
