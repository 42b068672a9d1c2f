package fakeazure

import "context"

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
