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

// VM is a machine for the node side.
type VM struct {
	// Name is the Node's name. ProviderID is the one that the kubelet sets.
	Name, ProviderID string
	Pool, Size       string
	Location, Zone   string
	Spot             bool
	// Labels and Taints are those of the pool. A taint is key=value:Effect.
	Labels map[string]string
	Taints []string
	// GPU is false if the pool installs no driver, or because of a fault.
	GPU bool
	// NotReady is true because of a fault.
	NotReady bool
	// ClusterID is the name of the AKS cluster. ResourceGroup is the node resource group in lower case.
	ClusterID, ResourceGroup string
}

// NodeLabels returns the labels that AKS puts on the machine's Node, and the pool's. gpus is the number of GPUs of its
// size.
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
		// https://learn.microsoft.com/azure/aks/use-nvidia-gpu selects Nodes by these.
		out["accelerator"], out["kubernetes.azure.com/accelerator"] = "nvidia", "nvidia"
	}
	if vm.Spot {
		out["kubernetes.azure.com/scalesetpriority"] = "spot"
	}
	maps.Copy(out, vm.Labels)
	return out
}

// NodeTaints returns the pool's taints, and the taint that AKS puts on each spot Node.
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

// NodeSide turns machines into Nodes. Both methods are called again after an error and must be idempotent.
type NodeSide interface {
	// Join is called when a machine has booted and its kubelet registers, and again when GPU or NotReady change.
	Join(ctx context.Context, vm VM) error
	// Leave is called when a machine is gone.
	Leave(ctx context.Context, vm VM) error
}

type noNodes struct{}

func (noNodes) Join(context.Context, VM) error  { return nil }
func (noNodes) Leave(context.Context, VM) error { return nil }

// tell calls the node side, and returns the calls to repeat: failed ones, and later ones for the same machine.
func (s *Server) tell(ctx context.Context, events []nodeEvent) (failed []nodeEvent) {
	waits := map[string]bool{}
	for _, event := range events {
		if waits[event.VM.Name] {
			failed = append(failed, event)
			continue
		}
		tell := s.options.Nodes.Join
		if event.Leave {
			tell = s.options.Nodes.Leave
		}
		if err := tell(ctx, event.VM); err != nil {
			failed = append(failed, event)
			waits[event.VM.Name] = true
		}
	}
	return failed
}
