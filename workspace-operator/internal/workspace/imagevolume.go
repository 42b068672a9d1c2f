// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
)

// Image volumes are on by default from Kubernetes 1.35 and need containerd 2.1. A cluster's nodes may be older than its
// API server, so the nodes are asked.
var (
	imageVolumeKubelet    = version.MustParseGeneric("1.35")
	imageVolumeContainerd = version.MustParseGeneric("2.1")
)

// imageVolumes says whether all the nodes can mount images.
func (r *Reconciler) imageVolumes(nodes []corev1.Node) bool {
	switch r.options.ImageVolumes {
	case ImageVolumesAlways:
		return true
	case ImageVolumesNever:
		return false
	}
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
