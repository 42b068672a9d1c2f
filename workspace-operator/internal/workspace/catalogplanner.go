// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/budget"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/plan"
	"kaito.sh/workspace-operator/internal/serving"
)

// CatalogPlanner asks package plan, and puts its answer into the terms of the controller.
type CatalogPlanner struct {
	Catalog *catalog.Catalog
	// Region that prices are of; empty: the lowest of all regions.
	Region string
	// EngineRegistry is where engines' images are pulled from, in the place of the registry that the catalogue names;
	// empty: that one.
	EngineRegistry string
	// WeightsRegistry is where the catalogue's public weight images are pulled from, in the place of the registry that the
	// catalogue names; empty: weights come from the model hub.
	WeightsRegistry string
}

var (
	_ Planner = CatalogPlanner{}
	_ Biller  = CatalogPlanner{}
)

// Plan decides. What the Workspace has comes first: what fits nodes that are there, or that it has, needs no others.
func (c CatalogPlanner) Plan(q Question) (*Plan, error) {
	request, err := c.request(q)
	if err != nil {
		return nil, err
	}
	for _, sized := range c.present(q, request) {
		if p, err := plan.Make(sized, c.Catalog); err == nil {
			return c.answer(q, p), nil
		}
	}
	p, err := plan.Make(request, c.Catalog)
	var refusal *plan.Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, c.refusal(q, refusal)
	case err != nil:
		return nil, err
	}
	return c.answer(q, p), nil
}

func (c CatalogPlanner) request(q Question) (plan.Request, error) {
	w := q.Workspace
	r := plan.ForWorkspace(w, q.Stage == StageTune, c.Region, q.InferenceConfig, q.TrainingConfig)
	r.Model = q.Model
	if len(q.Budgets) > 0 {
		r.Forbidden = func(p *plan.Plan) string { return c.forbidden(q.Budgets, p) }
	}
	if len(q.Resting) > 0 {
		r.Unavailable = func(instanceType, capacityType string) (time.Time, bool) {
			until, rests := q.Resting[placement.Choice{InstanceType: instanceType, CapacityType: kaitov1alpha1.CapacityType(capacityType)}]
			return until, rests
		}
	}
	if w.Resource.Provisioning == kaitov1alpha1.ProvisioningNever {
		r.Forbidden = nil // nothing is rented
		r.Sizes, r.InstanceTypes = c.sizes(q.Nodes, r.InstanceTypes), nil
		if len(r.Sizes) == 0 {
			return r, &Refusal{
				Reason:  kaitov1alpha1.ReasonNoMatchingNode,
				Message: "resource.provisioning is Never, and no node with GPUs that matches resource.labelSelector is ready and free: add one, or set provisioning to Auto",
			}
		}
	}
	return r, nil
}

// present are requests that ask for nothing new: what the Workspace already has, then the nodes that are there, of each
// size no more than there are.
func (c CatalogPlanner) present(q Question, r plan.Request) []plan.Request {
	var out []plan.Request
	never := len(r.Sizes) > 0 // these are all that may be
	if keep := q.Keep; !never && keep != nil && allowed(r.InstanceTypes, keep.InstanceType) &&
		allowed(orOnDemand(r.CapacityTypes), string(keep.CapacityType)) {
		kept := r
		kept.InstanceTypes, kept.CapacityTypes, kept.Unavailable, kept.Forbidden = []string{keep.InstanceType}, []string{
			string(keep.CapacityType),
		}, nil, nil
		out = append(out, kept)
	}
	sizes := r.Sizes
	if !never {
		sizes = c.sizes(q.Nodes, r.InstanceTypes)
	}
	for _, size := range sizes {
		there := 0
		for i := range q.Nodes {
			if s, known := sizeOf(&q.Nodes[i], c.Catalog); known && s.Name == size.Name {
				there++
			}
		}
		if r.Count != nil {
			there = min(there, *r.Count)
		}
		if there < 1 {
			continue // the user's count is refused by what follows
		}
		free := r
		free.Sizes, free.InstanceTypes, free.Count, free.Forbidden = []catalog.Size{size}, nil, &there, nil
		out = append(out, free)
	}
	return out
}

// forbidden says why the budgets could never allow a plan's nodes.
func (c CatalogPlanner) forbidden(budgets []kaitov1alpha1.GPUBudget, p *plan.Plan) string {
	capacity := kaitov1alpha1.CapacityType(p.CapacityType)
	return budget.Forbids(
		budgets,
		budget.Wish{
			InstanceType: p.InstanceType,
			CapacityType: capacity,
			Nodes:        p.Nodes,
			Bill:         c.Bill(p.InstanceType, capacity),
		},
	)
}

// Bill is what a node counts for in a GPUBudget: all of its GPUs, however they are cut, and the price that plans have.
func (c CatalogPlanner) Bill(instanceType string, capacityType kaitov1alpha1.CapacityType) budget.Bill {
	var bill budget.Bill
	if size, err := c.Catalog.Size(instanceType); err == nil {
		bill.GPUs = int64(size.GPUs)
	}
	price, known := plan.Price(c.Catalog, c.Region, instanceType, string(capacityType))
	if known {
		bill.Cost, bill.Priced = budget.Dollars(price.USDPerHour), true
	}
	return bill
}

func orOnDemand(types []string) []string {
	if len(types) == 0 {
		return []string{catalog.CapacityOnDemand}
	}
	return types
}

func allowed(names []string, name string) bool {
	return len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// sizes are those of nodes that are there, each once, by name.
func (c CatalogPlanner) sizes(nodes []corev1.Node, names []string) []catalog.Size {
	var out []catalog.Size
	for i := range nodes {
		size, known := sizeOf(&nodes[i], c.Catalog)
		if !known || !allowed(names, size.Name) ||
			slices.ContainsFunc(out, func(o catalog.Size) bool { return o.Name == size.Name }) {
			continue
		}
		out = append(out, size)
	}
	slices.SortFunc(out, func(a, b catalog.Size) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// refusal carries the planner's up, with what the provisioner said last. A choice that is barred for good because its
// nodes come without GPUs says so.
func (c CatalogPlanner) refusal(q Question, r *plan.Refusal) *Refusal {
	out := &Refusal{Reason: r.Reason, Message: r.Message, Until: r.Until}
	if attempts := q.Workspace.Status.Attempts; r.Reason == kaitov1alpha1.ReasonAttemptsExhausted && len(attempts) > 0 {
		last := attempts[len(attempts)-1]
		out.Message += fmt.Sprintf(
			". The last failure, of %s (%s): %s: %s", last.InstanceType, last.CapacityType, last.Reason, last.Message,
		)
		if last.Reason == kaitov1alpha1.ReasonAcceleratorNotReady && barred(q.Resting, last.Time.Time) {
			out.Reason = last.Reason
			out.Message = fmt.Sprintf(
				"nodes of every allowed size came without their GPUs, and have been replaced %d times: %s. See NVIDIA's device plugin and driver, then change resource.instanceType, or create the Workspace anew",
				placement.Budget, last.Message,
			)
		}
	}
	return out
}

// barred says whether something rests for good.
func barred(resting map[placement.Choice]time.Time, since time.Time) bool {
	for _, until := range resting {
		if until.Sub(since) > placement.Forever/2 {
			return true
		}
	}
	return false
}

func (c CatalogPlanner) answer(q Question, p *plan.Plan) *Plan {
	gib := func(bytes float64) string { return strconv.FormatFloat(bytes/plan.GiB, 'f', 2, 64) }
	out := &Plan{
		Status: kaitov1alpha1.PlanStatus{
			InstanceType:     p.InstanceType,
			CapacityType:     kaitov1alpha1.CapacityType(p.CapacityType),
			Nodes:            int32(p.Nodes),
			GPUsPerNode:      int32(p.GPUsPerNode), //nolint:gosec // bounded by the schema and the catalogue
			TensorParallel:   int32(p.TensorParallel),
			PipelineParallel: int32(p.PipelineParallel),
			DataParallel:     int32(p.DataParallel), //nolint:gosec // as above
			MaxModelLen:      int64(p.MaxModelLen),
			DType:            p.Dtype,
			EngineImage:      p.Engine.Image,
			Model:            p.Model.ID,
			Revision:         p.Model.Revision,
		},
		SizeGPUs: int64(p.Size.GPUs), DiskGiB: int64(p.DiskGiB),
	}
	if p.Priced {
		out.Status.CostPerHour, out.Status.PriceDate = strconv.FormatFloat(p.CostPerHour, 'f', 3, 64), p.PriceDate
	}
	if p.Memory.Usable > 0 {
		out.Status.Memory = &kaitov1alpha1.MemoryPlan{
			Weights: gib(p.Memory.Weights), KVCache: gib(p.Memory.KVCache), Activations: gib(p.Memory.Activations),
			Overhead: gib(p.Memory.Overhead), Free: gib(p.Memory.Free),
		}
	}
	if q.Stage == StageServe {
		out.Engine = c.engine(q, p)
		out.Status.WeightsImage = out.Engine.WeightsImage
	}
	return out
}

func (c CatalogPlanner) engine(q Question, p *plan.Plan) serving.Engine {
	e := serving.Engine{
		Image:        elsewhere(p.Engine.Image, c.EngineRegistry),
		Model:        p.Model.ID,
		Revision:     p.Model.Revision,
		Args:         p.Args,
		Env:          p.Engine.Env,
		GPUResource:  kaitov1alpha1.ResourceNvidiaGPU,
		GPUs:         int64(p.GPUsPerNode),
		Parallel:     p.GPUsPerNode > 1,
		WeightsBytes: p.Model.WeightsBytes,
		MaxLoraRank:  plan.AdapterRank(q.Workspace, q.TrainingConfig),
	}
	// Half of the node's CPUs and memory, by the share of its GPUs: loading and tokenizing take that, and the system's own
	// pods fit beside.
	if gpus := int64(p.Size.GPUs); gpus > 0 {
		e.CPUs = max(1, int64(p.Size.VCPUs)*e.GPUs/gpus/2)
		e.MemoryGiB = int64(p.Size.RAMGiB) * e.GPUs / gpus / 2
	}
	preset := plan.ServedPreset(q.Workspace)
	if preset == nil {
		return e
	}
	name, _, pinned := strings.Cut(preset.Name, "@")
	e.Names = []string{name, p.Model.ID}
	if o := preset.PresetOptions; o != nil {
		e.AccessSecret, e.WeightsImage, e.PullSecrets = o.ModelAccessSecret, o.Image, o.ImagePullSecrets
	}
	if e.WeightsImage == "" && !pinned {
		e.WeightsImage = c.publicWeights(p.Model.Image)
		e.WeightsArtifact = e.WeightsImage != ""
	}
	return e
}

// publicWeights is the catalogue's image of a model's weights, in the registry that this cluster pulls them from;
// empty: there is none.
func (c CatalogPlanner) publicWeights(image string) string {
	if c.WeightsRegistry == "" {
		return ""
	}
	return elsewhere(image, c.WeightsRegistry)
}

// elsewhere is an image in another registry, which may have a path; empty: where it is.
func elsewhere(image, registry string) string {
	_, path, found := strings.Cut(image, "/")
	if !found || registry == "" {
		return image
	}
	return strings.TrimSuffix(registry, "/") + "/" + path
}
