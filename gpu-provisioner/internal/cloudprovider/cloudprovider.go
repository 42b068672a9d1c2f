// SPDX-License-Identifier: Apache-2.0

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
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// Engine is the part of the pool engine that the provider needs.
type Engine interface {
	Waiting(types.UID) (pool.Wait, bool)
	Release(types.UID)
	Wake()
	Memory() *offering.Memory
	Doubts() pool.Doubts
}

// Views returns the last view of Azure.
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
	// MaxAge is the age of the view from which List and Get return an error.
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

// Name returns the provider's name in metrics.
func (p *Provider) Name() string { return "azure" }

// GetSupportedNodeClasses returns the node class of this operator's NodeClaims.
func (p *Provider) GetSupportedNodeClasses() []status.Object { return []status.Object{&nodeClass{}} }

// Create returns the claim's machine if the engine has bound one to it. Until then it returns an error with what the
// claim waits for. Karpenter writes the error to the condition Launched, as Unknown, and calls again after a backoff,
// or at once when the engine writes the claim.
// A failure is returned twice. The first error becomes the condition's reason. When the claim has that reason, the
// second error lets Karpenter delete the claim. So a claim is never deleted without its reason.
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
	return nil, pending(karpenterv1alpha5.ReasonLaunching, "waiting for the first read of the agent pools")
}

func verdict(claim *karpv1.NodeClaim, f pool.Failure) error {
	err := errors.New(f.Message)
	launched := claim.StatusConditions().Get(karpv1.ConditionTypeLaunched)
	if f.Class == azure.ClassCapacity && launched != nil && launched.Reason == f.Reason {
		return corecloud.NewInsufficientCapacityError(err)
	}
	return corecloud.NewCreateError(err, f.Reason, f.Message)
}

// PendingError says that a claim is still launching. Karpenter logs it as an error, but it is not one.
type PendingError struct{ Reason, Message string }

func (e *PendingError) Error() string { return e.Message }

func pending(reason, message string) error {
	return corecloud.NewCreateError(&PendingError{Reason: reason, Message: message}, reason, message)
}

// launched returns the claim with the properties of its machine.
func (p *Provider) launched(claim *karpv1.NodeClaim, providerID string) (*karpv1.NodeClaim, error) {
	view, _ := p.Views.View()
	_, agentPool, ok := view.Machine(providerID)
	if !ok {
		// After a restart there is no view yet. The engine handles a machine that is gone.
		p.Engine.Wake()
		return nil, pending(karpenterv1alpha5.ReasonLaunching, "waiting for Azure to list the machine "+providerID)
	}
	out := claim.DeepCopy()
	out.Labels = p.labels(&view, agentPool)
	for _, r := range claim.Spec.Requirements {
		// Karpenter copies no requirements to the Node's labels. A requirement with a single value is a label that pods may
		// select.
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

// labels returns the labels that Karpenter cannot know, because it copies none of the claim's requirements.
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

// Delete requests the deletion of the claim's machine. It returns NotFound once a view that is newer than the claim's
// deletion lacks the machine and no doubt speaks for it. Karpenter then removes its finalizer, after which no claim
// names the machine. Karpenter calls Delete every five seconds from two controllers, so it only looks up.
func (p *Provider) Delete(_ context.Context, claim *karpv1.NodeClaim) error {
	id := pool.ProviderIDOf(claim)
	if id == "" {
		return corecloud.NewNodeClaimNotFoundError(fmt.Errorf("claim %s names no machine", claim.Name))
	}
	p.Engine.Release(claim.UID)
	view, err := p.usable()
	if err != nil {
		return nil // requested; whether the machine is gone is unknown
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

// Get returns the machine with that provider ID as a claim.
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

// List returns every machine of this operator as a claim, also those in pools whose tags were replaced. Karpenter
// deletes claims that are not in the list. Therefore List returns an error while the view is unreliable, and it
// includes machines that may run although their pool's list lacks them.
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

// DoubtError says that the view of Azure is not reliable now. The engine renews the view and logs the reason.
type DoubtError struct{ Message string }

func (e *DoubtError) Error() string { return e.Message }

// usable returns the view, or an error while it is not reliable.
func (p *Provider) usable() (azure.View, error) {
	view, err := p.Views.View()
	if err != nil {
		return azure.View{}, &DoubtError{"the last read of Azure failed: " + err.Error()}
	}
	if !view.Cluster.Writable() && !view.At.IsZero() {
		return azure.View{}, &DoubtError{
			fmt.Sprintf(
				"the cluster is %s (%s): its list of machines is not reliable", view.Cluster.PowerState,
				view.Cluster.ProvisioningState,
			),
		}
	}
	if !view.Fresh(p.Clock.Now(), p.MaxAge) {
		p.Views.Invalidate("")
		p.Engine.Wake()
		return azure.View{}, &DoubtError{
			fmt.Sprintf("the view of Azure is older than %s or incomplete; it is being renewed", p.MaxAge),
		}
	}
	if !p.Engine.Doubts().At.Equal(view.At) {
		return azure.View{}, &DoubtError{"the view of Azure is new and has not been compared with the claims yet"}
	}
	return view, nil
}

func (p *Provider) asClaim(view *azure.View, agentPool *azure.Pool, providerID string) *karpv1.NodeClaim {
	out := &karpv1.NodeClaim{}
	out.Labels = p.labels(view, agentPool)
	out.Status.ProviderID = providerID
	return out
}

// IsDrifted returns no drift. A changed node class applies to new pools only; existing Nodes stay until their owner
// replaces them.
func (p *Provider) IsDrifted(context.Context, *karpv1.NodeClaim) (corecloud.DriftReason, error) {
	return "", nil
}

// RepairPolicies returns the conditions of Nodes that node repair replaces: not Ready, or without contact, for ten
// minutes, like AKS's own auto-repair (https://learn.microsoft.com/azure/aks/node-auto-repair).
func (p *Provider) RepairPolicies() []corecloud.RepairPolicy {
	return []corecloud.RepairPolicy{
		{ConditionType: corev1.NodeReady, ConditionStatus: corev1.ConditionFalse, TolerationDuration: 10 * time.Minute},
		{ConditionType: corev1.NodeReady, ConditionStatus: corev1.ConditionUnknown, TolerationDuration: 10 * time.Minute},
	}
}
