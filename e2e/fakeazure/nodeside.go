// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// VM is a machine as the node side sees it.
type VM struct {
	// Name of the Node, ProviderID as the kubelet sets it.
	Name, ProviderID string
	Pool, Size       string
	Location, Zone   string
	Spot             bool
	// Labels and Taints of the pool; a taint is key=value:Effect.
	Labels map[string]string
	Taints []string
	// GPU is false when the pool installs no driver, or by a fault.
	GPU bool
	// NotReady is true by a fault.
	NotReady bool
	// ClusterID is the AKS cluster's name, ResourceGroup the node resource group's, lower case.
	ClusterID, ResourceGroup string
}

// NodeLabels are those that AKS puts on the machine's Node of its own accord, and the pool's; gpus is how many its size
// has.
func (vm VM) NodeLabels(gpus int) map[string]string {
	out := map[string]string{
		"agentpool": vm.Pool, "kubernetes.azure.com/agentpool": vm.Pool, "kubernetes.azure.com/cluster": vm.ResourceGroup,
		"kubernetes.azure.com/mode": "user", "kubernetes.azure.com/role": "agent",
		corev1.LabelInstanceTypeStable: vm.Size, corev1.LabelTopologyRegion: vm.Location, corev1.LabelTopologyZone: "0",
		corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelHostname: vm.Name,
	}
	if vm.Zone != "" {
		out[corev1.LabelTopologyZone] = vm.Location + "-" + vm.Zone
	}
	if gpus > 0 {
		// https://learn.microsoft.com/azure/aks/use-nvidia-gpu has workloads choose nodes by these.
		out["accelerator"], out["kubernetes.azure.com/accelerator"] = "nvidia", "nvidia"
	}
	if vm.Spot {
		out["kubernetes.azure.com/scalesetpriority"] = "spot"
	}
	maps.Copy(out, vm.Labels)
	return out
}

// NodeTaints are the pool's, and the one that AKS puts on every spot node, whatever the pool's own taints are.
func (vm VM) NodeTaints() []corev1.Taint {
	texts := vm.Taints
	if vm.Spot {
		texts = append(slices.Clone(texts), kaitov1alpha1.TaintKeySpot+"="+kaitov1alpha1.TaintValueSpot+":NoSchedule")
	}
	var taints []corev1.Taint
	for _, text := range texts {
		if taint, ok := parseTaint(text); ok {
			taints = append(taints, taint)
		}
	}
	return taints
}

// parseTaint reads key=value:Effect or key:Effect.
func parseTaint(text string) (corev1.Taint, bool) {
	head, effect, ok := strings.Cut(text, ":")
	if !ok {
		return corev1.Taint{}, false
	}
	key, value, _ := strings.Cut(head, "=")
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}, true
}

// NodeSide turns machines into Nodes. Both are called again after an error and must bear it.
type NodeSide interface {
	// Join is called when a machine has booted and its kubelet registers, and again when GPU or NotReady have changed.
	Join(ctx context.Context, vm VM) error
	// Leave is called when a machine is gone.
	Leave(ctx context.Context, vm VM) error
}

type noNodes struct{}

func (noNodes) Join(context.Context, VM) error  { return nil }
func (noNodes) Leave(context.Context, VM) error { return nil }
