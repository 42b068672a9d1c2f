// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"kaito.sh/shared/podspec"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/ranks"
)

// ranksDir has the supervisor of the ranks, in the engine's container. It must not be the path of the program in the
// gateway's image, which the mount would hide.
const ranksDir = "/supervisor"

// portRanks is where the supervisor of rank 0 listens.
const portRanks = 29501

// supervised returns the engine's command under the supervisor that starts and ends all ranks together.
func supervised(command engine.Command, group engine.Ranks) []string {
	out := []string{
		ranksDir + "/" + ranks.Program, "run",
		"--rank=$(" + group.Variable + ")",
		"--nodes=" + strconv.Itoa(group.Nodes),
		"--leader=" + group.Leader,
		"--port=" + strconv.Itoa(portRanks),
		"--termination-log=" + terminLog,
	}
	for _, arg := range command.FollowerArgs {
		out = append(out, "--follower-arg="+arg)
	}
	return slices.Concat(out, []string{"--"}, command.Command)
}

// supervisor copies the supervisor from the gateway's image, which each of these pods has, to where the engine's
// container finds it.
func supervisor(in Input) corev1.Container {
	return corev1.Container{
		Name: "ranks", Image: in.Images.Gateway, ImagePullPolicy: corev1.PullIfNotPresent,
		Command:                  []string{"/" + ranks.Program, "install", ranksDir},
		TerminationMessagePath:   terminLog,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          podspec.ContainerSecurityWithUser(),
		VolumeMounts:             []corev1.VolumeMount{{Name: "ranks", MountPath: ranksDir}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("10m"),
				corev1.ResourceMemory: resource.MustParse("16Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
	}
}
