// SPDX-License-Identifier: Apache-2.0

package trust

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// Usage is the help text of --ca-config-map in all operators.
const Usage = "name of a ConfigMap in the namespace of the pods, whose files (PEM) hold certificate authorities that they trust besides the public ones; a namespace need not have it"

// Folder is the folder in the containers with the files of the ConfigMap. It is empty if there is no ConfigMap.
const Folder = "/etc/kaito/authorities"

const (
	volume = "authorities"
	// envFolder is a variable of Go's crypto/x509: a folder with authorities besides the image's file of public ones.
	envFolder = "SSL_CERT_DIR"
)

// Add makes the named containers trust the authorities in configMap. If it is empty, they trust only the public ones.
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
				// Namespaces with public sources only do not need the ConfigMap.
				Optional: ptr.To(true),
			}}},
		)
	}
}

func add(c *corev1.Container) {
	c.Env = append(c.Env, corev1.EnvVar{Name: envFolder, Value: Folder})
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: Folder, ReadOnly: true})
}
