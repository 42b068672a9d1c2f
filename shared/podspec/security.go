// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// User is the user and group ID of the user nonroot in distroless images.
const User int64 = 65532

// PodSecurity returns the security context of a pod whose containers all run as User. With ContainerSecurity on each
// container the pod meets the Pod Security Standard "restricted".
func PodSecurity() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot:        ptr.To(true),
		RunAsUser:           ptr.To(User),
		RunAsGroup:          ptr.To(User),
		FSGroup:             ptr.To(User),
		FSGroupChangePolicy: ptr.To(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile:      runtimeDefault(),
	}
}

// ContainerSecurity returns the security context of a container that inherits its user and its seccomp profile from
// PodSecurity.
func ContainerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false),
		ReadOnlyRootFilesystem:   ptr.To(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// ContainerSecurityWithUser returns ContainerSecurity with the user and the seccomp profile set, for a pod in which
// another container's image sets its own user.
func ContainerSecurityWithUser() *corev1.SecurityContext {
	c := ContainerSecurity()
	c.RunAsNonRoot, c.RunAsUser, c.RunAsGroup = ptr.To(true), ptr.To(User), ptr.To(User)
	c.SeccompProfile = runtimeDefault()
	return c
}

func runtimeDefault() *corev1.SeccompProfile {
	return &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
}
