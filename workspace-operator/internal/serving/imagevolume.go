// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
)

// Kubernetes mounts image volumes by default from 1.35 on, and containerd from 2.1 on. The nodes may be older than the
// API server, so their versions decide.
var (
	imageVolumeKubelet    = version.MustParseGeneric("1.35")
	imageVolumeContainerd = version.MustParseGeneric("2.1")
)

// CanMountImages returns whether all the nodes can mount images; false for no nodes.
func CanMountImages(nodes []corev1.Node) bool {
	for _, n := range nodes {
		info := n.Status.NodeInfo
		runtime, ok := strings.CutPrefix(info.ContainerRuntimeVersion, "containerd://")
		if !ok || !atLeast(info.KubeletVersion, imageVolumeKubelet) || !atLeast(runtime, imageVolumeContainerd) {
			return false
		}
	}
	return len(nodes) > 0
}

func atLeast(text string, want *version.Version) bool {
	got, err := version.ParseGeneric(text)
	return err == nil && got.AtLeast(want)
}
