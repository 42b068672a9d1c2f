// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"context"
	"errors"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/patch"
)

// Clients reach the server through its Service.
// +kubebuilder:rbac:groups="",resources=services,verbs=list;watch;create;patch
// The pods of one server on several nodes are evicted together, or not at all.
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=list;watch;create;patch
// Other pods reach only the gateway of a serving pod.
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=list;watch;create;patch

// Children applies the objects of a server. All reads are cached, and an unchanged object costs no request.
type Children struct {
	Client client.Client
	Drift  *Drift
}

// Apply applies everything that a server consists of, and returns what exists afterwards. The server is rendered again
// only when its inputs have changed, or when another client has changed its specification. The error is a
// *patch.TakenError where an object belongs to another owner.
func (c Children) Apply(ctx context.Context, in Input, found Found) (Found, error) {
	if err := found.checkOwner(c.Client, in.Workspace); err != nil {
		return found, err
	}
	if err := c.applySurroundings(ctx, in, in.Several()); err != nil {
		return found, err
	}
	if in.Several() {
		if err := c.applyChild(ctx, in.Workspace, Peers(in)); err != nil {
			return found, err
		}
	}
	// The two do not depend on each other, and kube-proxy needs a while to program a Service: apply them at the same time.
	var serviceErr error
	var service sync.WaitGroup
	current := found.Service
	service.Go(func() { serviceErr = c.applyService(ctx, in, current) })
	applied, err := c.applyServer(ctx, in, found)
	service.Wait()
	return applied, errors.Join(serviceErr, err)
}

// Keep applies what a server needs besides itself, without rendering the server: it repairs what another release made,
// or what was deleted. It does nothing where an object belongs to another owner.
func (c Children) Keep(ctx context.Context, in Input, found Found) error {
	if found.Server == nil || found.checkOwner(c.Client, in.Workspace) != nil {
		return nil
	}
	if in.Public && found.Service != nil {
		if err := c.applyService(ctx, in, found.Service); err != nil {
			return err
		}
	}
	return c.applySurroundings(ctx, in, found.Server.IsSet())
}

// applySurroundings applies the NetworkPolicy, before there is a pod, and the PodDisruptionBudget of several nodes.
func (c Children) applySurroundings(ctx context.Context, in Input, several bool) error {
	if in.Fenced() {
		if err := c.applyNetworkPolicy(ctx, in); err != nil {
			return err
		}
	}
	if !several {
		return nil
	}
	return c.applyChild(ctx, in.Workspace, DisruptionBudget(in))
}

// applyNetworkPolicy renders the policy only where the one that exists is new or has changed.
func (c Children) applyNetworkPolicy(ctx context.Context, in Input) error {
	current, err := Get(ctx, c.Client, client.ObjectKeyFromObject(in.Workspace), &networkingv1.NetworkPolicy{})
	if err != nil || current != nil && c.Drift.Settled(current) {
		return err
	}
	applied, err := patch.ApplyOwned(
		ctx, c.Client, c.Client, kaitov1alpha1.FieldManager, in.Workspace, NetworkPolicy(in),
	)
	if err == nil && !applied && current != nil {
		c.Drift.Settle(current)
	}
	return err
}

func (c Children) applyService(ctx context.Context, in Input, current *corev1.Service) error {
	applied, err := patch.Apply(
		ctx, c.Client, kaitov1alpha1.FieldManager, Service(in), c.Drift.Current(object(current)),
	)
	if err != nil || !applied || current == nil {
		return err
	}
	now, err := Get(ctx, c.Client, client.ObjectKeyFromObject(in.Workspace), &corev1.Service{})
	if now != nil {
		c.Drift.Repaired(now)
	}
	return err
}

func (c Children) applyServer(ctx context.Context, in Input, found Found) (Found, error) {
	if found.Server.Inputs() == in.Hash && !c.Drift.Found(found.Server.Object) {
		return found, Remove(ctx, c.Client, in.Workspace, found.Other)
	}
	log.FromContext(ctx).Info("Applying the workload", "inputs", in.Hash)
	// The two kinds would hold the same GPUs.
	if err := Remove(ctx, c.Client, in.Workspace, found.Other); err != nil {
		return found, err
	}
	var current client.Object
	if found.Server != nil {
		current = c.Drift.Current(found.Server.Object)
	}
	if _, err := patch.Apply(ctx, c.Client, kaitov1alpha1.FieldManager, Render(in), current); err != nil {
		return found, err
	}
	now, err := findServers(ctx, c.Client, in.Workspace)
	if err != nil {
		return found, err
	}
	now.Service = found.Service
	now.Prefer(in.Several())
	if now.Server != nil {
		c.Drift.Repaired(now.Server.Object)
	}
	return now, nil
}

// Render returns the Deployment or the StatefulSet of an input.
func Render(in Input) client.Object {
	if in.Several() {
		return StatefulSet(in)
	}
	return Deployment(in)
}

// checkOwner returns a *patch.TakenError where the Service or the server is not controlled by the Workspace.
func (f Found) checkOwner(c client.Client, w *kaitov1alpha1.Workspace) error {
	if f.Service != nil {
		if err := patch.CheckOwner(c, w, f.Service); err != nil {
			return err
		}
	}
	if f.Server != nil {
		return patch.CheckOwner(c, w, f.Server.Object)
	}
	return nil
}

// applyChild applies an object of the Workspace, unless another owner has one of its name.
func (c Children) applyChild(ctx context.Context, owner *kaitov1alpha1.Workspace, want client.Object) error {
	_, err := patch.ApplyOwned(ctx, c.Client, c.Client, kaitov1alpha1.FieldManager, owner, want)
	return err
}

// object returns a nil interface for a nil pointer.
func object[T any, P interface {
	*T
	client.Object
}](p P) client.Object {
	if p == nil {
		return nil
	}
	return p
}
