// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/podspec"
)

// gatewayContainer returns the container of the HTTP server in front of the engine.
func gatewayContainer(in Input) corev1.Container {
	args := []string{
		"--drain-timeout=" + strconv.Itoa(drainSeconds) + "s",
		"--engine=http://127.0.0.1:" + strconv.Itoa(enginePort),
		"--listen=:" + strconv.Itoa(kaitov1alpha1.PortGateway),
		"--model=" + in.ServedName(),
		"--status-listen=:" + strconv.Itoa(portOfStatus),
	}
	c := corev1.Container{
		Name:            ContainerGateway,
		Image:           in.Images.Gateway,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            args,
		Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: kaitov1alpha1.PortGateway, Protocol: corev1.ProtocolTCP},
			{Name: portStatus, ContainerPort: portOfStatus, Protocol: corev1.ProtocolTCP},
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:     httpGet("/readyz"),
			PeriodSeconds:    5,
			TimeoutSeconds:   3,
			FailureThreshold: 3,
		},
		LivenessProbe: &corev1.Probe{
			ProbeHandler:     httpGet("/healthz"),
			PeriodSeconds:    10,
			TimeoutSeconds:   3,
			FailureThreshold: 6,
		},
		TerminationMessagePath:   terminLog,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          podspec.ContainerSecurityWithUser(),
		Env:                      []corev1.EnvVar{memoryLimit(gatewayMemory)},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("100m"),
				corev1.ResourceMemory: resource.MustParse("64Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: gatewayMemory},
		},
	}
	if in.Engine.Completions && !slices.ContainsFunc(in.Adapters, func(a Adapter) bool { return trainedTemplate(in, a) }) {
		c.Args = append(c.Args, "--prompt-api=completions")
	}
	if in.APIKeySecret != "" {
		c.Args = append([]string{"--api-key-file=" + keysDir + "/keys"}, c.Args...)
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "keys", MountPath: keysDir, ReadOnly: true})
	}
	return c
}

// gatewayMemory is the memory limit of the gateway's container. It is read only.
var gatewayMemory = resource.MustParse("512Mi")

// memoryLimit has Go's runtime collect garbage before the kernel kills: at nine tenths of a container's limit, in
// bytes. The rest is for what the runtime does not count, such as the program itself
// (https://go.dev/doc/gc-guide#Suggested_uses). A resourceFieldRef would give the whole limit.
func memoryLimit(limit resource.Quantity) corev1.EnvVar {
	return corev1.EnvVar{Name: "GOMEMLIMIT", Value: strconv.FormatInt(limit.Value()/10*9, 10)}
}

func httpGet(path string) corev1.ProbeHandler {
	return corev1.ProbeHandler{
		HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(portOfStatus), Scheme: corev1.URISchemeHTTP},
	}
}
