// SPDX-License-Identifier: Apache-2.0

// Package cloudprovider is what Karpenter's core drives: its CloudProvider over our engine. Nothing here talks to
// Azure; every method answers from the claim, the shared view and the engine's last decision, and returns at once.
package cloudprovider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/offering"
	"kaito.sh/gpu-provisioner/internal/pool"
)

// Engine is what the provider asks of the pool engine.
type Engine interface {
	Waiting(types.UID) (pool.Wait, bool)
	Release(types.UID)
	Wake()
	Memory() *offering.Memory
	Doubts() pool.Doubts
}

// Views gives the last view of Azure.
type Views interface {
	View() (azure.View, error)
	Invalidate(pool string)
}

// Catalog knows VM sizes.
type Catalog interface {
	Size(name string) (offering.Size, bool)
	Sizes() []offering.Size
	Price(size, region, capacityType string) float64
}

// Config is what a Provider needs.
type Config struct {
	Engine  Engine
	Views   Views
	Catalog Catalog
	Clock   clock.PassiveClock
	// MaxAge is the age of the view beyond which List and Get refuse to answer.
	MaxAge time.Duration
}

// Provider implements Karpenter's CloudProvider.
type Provider struct{ Config }

var _ corecloud.CloudProvider = (*Provider)(nil)

// New returns a Provider.
func New(c Config) *Provider {
	(&nodeClass{}).register(scheme.Scheme)
	return &Provider{Config: c}
}

// Name is the provider's name in metrics.
func (p *Provider) Name() string { return "azure" }

// GetSupportedNodeClasses says which NodeClaims are ours.
func (p *Provider) GetSupportedNodeClasses() []status.Object { return []status.Object{&nodeClass{}} }

// Create gives the claim its machine when the engine has bound one to it. Until then it fails with what the claim waits
// for: core writes that into the condition Launched, as Unknown, and calls again with a backoff, or at once when the
// engine writes the claim.
//
// A verdict is told twice. The first time it becomes the condition's reason; the second time, when the claim carries
// it, core may delete the claim. So no claim goes without its reason.
func (p *Provider) Create(_ context.Context, claim *karpv1.NodeClaim) (*karpv1.NodeClaim, error) {
	if failure, ok := pool.FailureOf(claim); ok {
		return nil, verdict(claim, failure)
	}
	if id := claim.Annotations[pool.AnnotationProviderID]; id != "" {
		return p.launched(claim, id)
	}
	p.Engine.Wake()
	if w, ok := p.Engine.Waiting(claim.UID); ok {
		return nil, pending(w.Reason, w.Message)
	}
	return nil, pending(pool.ReasonLaunching, "waiting for the agent pools to be looked at")
}

func verdict(claim *karpv1.NodeClaim, f pool.Failure) error {
	err := errors.New(f.Message)
	launched := claim.StatusConditions().Get(karpv1.ConditionTypeLaunched)
	if f.Class == azure.ClassCapacity && launched != nil && launched.Reason == f.Reason {
		return corecloud.NewInsufficientCapacityError(err)
	}
	return corecloud.NewCreateError(err, f.Reason, f.Message)
}

// PendingError says that a claim is on its way: core logs it as an error, and it is none.
type PendingError struct{ Reason, Message string }

func (e *PendingError) Error() string { return e.Message }

func pending(reason, message string) error {
	return corecloud.NewCreateError(&PendingError{Reason: reason, Message: message}, reason, message)
}

// launched describes the machine that the claim is bound to.
func (p *Provider) launched(claim *karpv1.NodeClaim, providerID string) (*karpv1.NodeClaim, error) {
	view, _ := p.Views.View()
	_, agentPool, ok := view.Machine(providerID)
	if !ok {
		// After a restart the view is not there yet; and a machine that is gone is the engine's business.
		p.Engine.Wake()
		return nil, pending(pool.ReasonLaunching, "waiting to see the machine "+providerID)
	}
	out := claim.DeepCopy()
	out.Labels = p.labels(&view, agentPool)
	for _, r := range claim.Spec.Requirements {
		// Core copies no requirement to the Node's labels; one with a single value is a label that somebody will select.
		if _, known := out.Labels[r.Key]; !known && r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1 &&
			!karpv1.WellKnownLabels.Has(r.Key) {
			out.Labels[r.Key] = r.Values[0]
		}
	}
	out.Annotations = nil
	out.Status.ProviderID = providerID
	if size, ok := p.Catalog.Size(agentPool.Size); ok {
		out.Status.Capacity = size.Capacity()
		out.Status.Allocatable = size.Capacity()
	}
	return out, nil
}

// labels are those that core cannot know: it copies none of the claim's requirements.
func (p *Provider) labels(view *azure.View, agentPool *azure.Pool) map[string]string {
	labels := map[string]string{
		corev1.LabelInstanceTypeStable: agentPool.Size,
		corev1.LabelOSStable:           string(corev1.Linux),
		corev1.LabelArchStable:         karpv1.ArchitectureAmd64,
		corev1.LabelTopologyRegion:     view.Cluster.Location,
		karpv1.CapacityTypeLabelKey:    karpv1.CapacityTypeOnDemand,
	}
	if agentPool.Spot {
		labels[karpv1.CapacityTypeLabelKey] = karpv1.CapacityTypeSpot
	}
	if len(agentPool.Zones) == 1 {
		labels[corev1.LabelTopologyZone] = pool.ZoneLabel(view.Cluster.Location, agentPool.Zones[0])
	}
	return labels
}

// Delete asks the engine to delete the claim's machine, and answers NotFound once a view that is younger than the
// claim's deletion does not show it, and nothing else speaks for it: core then takes the finalizer off, and nothing
// would name a machine that still runs. Core calls it every five seconds from two controllers: it is a lookup.
func (p *Provider) Delete(_ context.Context, claim *karpv1.NodeClaim) error {
	id := pool.ProviderIDOf(claim)
	if id == "" {
		return corecloud.NewNodeClaimNotFoundError(fmt.Errorf("claim %s names no machine", claim.Name))
	}
	p.Engine.Release(claim.UID)
	view, err := p.usable()
	if err != nil {
		return nil // asked for; whether it is gone cannot be known now
	}
	if _, _, ok := view.Machine(id); ok {
		return nil
	}
	if _, doubted := p.Engine.Doubts().Of(id); doubted {
		return nil
	}
	if claim.DeletionTimestamp != nil && !view.Oldest.After(claim.DeletionTimestamp.Time) {
		p.Views.Invalidate("")
		p.Engine.Wake()
		return nil
	}
	return corecloud.NewNodeClaimNotFoundError(fmt.Errorf("machine %s is gone", id))
}

// Get returns the machine of a provider id as a claim.
func (p *Provider) Get(_ context.Context, providerID string) (*karpv1.NodeClaim, error) {
	view, err := p.usable()
	if err != nil {
		return nil, err
	}
	_, agentPool, ok := view.Machine(providerID)
	if !ok {
		if why, doubted := p.Engine.Doubts().Of(providerID); doubted {
			return nil, &DoubtError{"the view of Azure lacks machine " + providerID + ", which may run: " + why}
		}
		return nil, corecloud.NewNodeClaimNotFoundError(fmt.Errorf("machine %s is gone", providerID))
	}
	return p.asClaim(&view, agentPool, providerID), nil
}

// List returns every machine of ours as a claim, those in pools whose tags were replaced among them. Core deletes
// claims that a List lacks: it fails whole when the view is in doubt, and has the machines that may run although their
// pool's list lacks them.
func (p *Provider) List(context.Context) ([]*karpv1.NodeClaim, error) {
	view, err := p.usable()
	if err != nil {
		return nil, err
	}
	var out []*karpv1.NodeClaim
	for i := range view.Pools {
		agentPool := &view.Pools[i]
		if !agentPool.Watched() {
			continue
		}
		for _, m := range agentPool.Machines {
			out = append(out, p.asClaim(&view, agentPool, m.ProviderID))
		}
	}
	for name, machines := range p.Engine.Doubts().Machines() {
		if agentPool, ok := view.Pool(name); ok {
			for _, id := range machines {
				out = append(out, p.asClaim(&view, agentPool, id))
			}
		}
	}
	return out, nil
}

// DoubtError says that the view of Azure cannot be believed now; the engine, which renews it, logs why.
type DoubtError struct{ Message string }

func (e *DoubtError) Error() string { return e.Message }

// usable returns the view when nothing about it is in doubt.
func (p *Provider) usable() (azure.View, error) {
	view, err := p.Views.View()
	if err != nil {
		return azure.View{}, &DoubtError{"the last look at Azure failed: " + err.Error()}
	}
	if !view.Cluster.Writable() && !view.At.IsZero() {
		return azure.View{}, &DoubtError{
			fmt.Sprintf(
				"the cluster is %s (%s): its list of machines is not believed", view.Cluster.PowerState,
				view.Cluster.ProvisioningState,
			),
		}
	}
	if !view.Fresh(p.Clock.Now(), p.MaxAge) {
		p.Views.Invalidate("")
		p.Engine.Wake()
		return azure.View{}, &DoubtError{
			fmt.Sprintf("the view of Azure is older than %s or not complete; it is being renewed", p.MaxAge),
		}
	}
	if !p.Engine.Doubts().At.Equal(view.At) {
		return azure.View{}, &DoubtError{"the view of Azure is new, and was not compared with the claims yet"}
	}
	return view, nil
}

func (p *Provider) asClaim(view *azure.View, agentPool *azure.Pool, providerID string) *karpv1.NodeClaim {
	out := &karpv1.NodeClaim{}
	out.Labels = p.labels(view, agentPool)
	out.Status.ProviderID = providerID
	return out
}

// IsDrifted: a claim's pool key has all that its class shapes, and a changed class makes new pools; old nodes stay
// until their owner replaces them.
func (p *Provider) IsDrifted(context.Context, *karpv1.NodeClaim) (corecloud.DriftReason, error) {
	return "", nil
}

// RepairPolicies are the conditions of a Node that node repair acts on: a kubelet that stopped answering, or reports
// NotReady, for ten minutes, as AKS's own auto-repair tolerates
// (https://learn.microsoft.com/azure/aks/node-auto-repair).
func (p *Provider) RepairPolicies() []corecloud.RepairPolicy {
	return []corecloud.RepairPolicy{
		{ConditionType: corev1.NodeReady, ConditionStatus: corev1.ConditionFalse, TolerationDuration: 10 * time.Minute},
		{ConditionType: corev1.NodeReady, ConditionStatus: corev1.ConditionUnknown, TolerationDuration: 10 * time.Minute},
	}
}
