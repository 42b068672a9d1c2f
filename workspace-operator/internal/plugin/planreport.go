// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

// planReport is the answer for one stage of one Workspace.
type planReport struct {
	// Workspace is the name; empty if the command line names a model.
	Workspace string `json:"workspace,omitempty"`
	Stage     stage  `json:"stage"`
	Model     string `json:"model,omitempty"`
	Revision  string `json:"revision,omitempty"`
	Feasible  bool   `json:"feasible"`
	// Reason and Message say why there is no plan.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Chosen is the candidate that the operator would create.
	Chosen *choice `json:"chosen,omitempty"`
	// Candidates are all considered ones: the chosen one, others that fit by price (or in the user's order), the rejected.
	Candidates []choice `json:"candidates,omitempty"`
	// PriceDate is the day of the price list, Region its region.
	PriceDate string   `json:"priceDate,omitempty"`
	Region    string   `json:"region"`
	Notes     []string `json:"notes,omitempty"`
}

// choice is one candidate.
type choice struct {
	InstanceType string `json:"instanceType"`
	CapacityType string `json:"capacityType"`
	// GPU is the number and the model of a node's GPUs, for example "8×H100-80".
	GPU              string `json:"gpu,omitempty"`
	Nodes            int    `json:"nodes"`
	GPUsPerNode      int    `json:"gpusPerNode,omitempty"`
	TensorParallel   int    `json:"tensorParallel"`
	PipelineParallel int    `json:"pipelineParallel,omitempty"`
	DataParallel     int    `json:"dataParallel,omitempty"`
	// MaxModelLen is the context (serving) or the sequence length (tuning) in tokens.
	MaxModelLen int    `json:"maxModelLen,omitempty"`
	Dtype       string `json:"dtype,omitempty"`
	Engine      string `json:"engine,omitempty"`
	EngineImage string `json:"engineImage,omitempty"`
	DiskGiB     int    `json:"diskGiB,omitempty"`
	// Memory of one GPU.
	Memory *memory `json:"memory,omitempty"`
	// CostPerHour of all nodes in US dollars; absent if a price is unknown.
	CostPerHour *float64 `json:"costPerHour,omitempty"`
	Args        []string `json:"engineArgs,omitempty"`
	// Cause and Rejected say why the candidate was rejected.
	Cause    string `json:"cause,omitempty"`
	Rejected string `json:"rejected,omitempty"`
}

// memory is in GiB of one GPU: weights + cache + activations + free = usable; usable + overhead = device.
type memory struct {
	Weights     float64 `json:"weightsGiB"`
	KVCache     float64 `json:"kvCacheGiB"`
	Activations float64 `json:"activationsGiB"`
	Free        float64 `json:"freeGiB"`
	Usable      float64 `json:"usableGiB"`
	Overhead    float64 `json:"overheadGiB"`
	Device      float64 `json:"deviceGiB"`
}

// cheapestRegion is the Region of prices that come from the cheapest region of each size.
const cheapestRegion = "cheapest"

// newPlanReport runs the planner, and runs it again for each candidate that fits, because a plan has details of its
// chosen candidate only.
func newPlanReport(s *subject, st stage, r plan.Request, c *catalog.Catalog) planReport {
	out := planReport{Workspace: s.workspace.Name, Stage: st, Notes: s.notes, Region: r.Region}
	if r.Region == "" {
		out.Region = cheapestRegion
	} else if !c.KnowsRegion(r.Region) {
		out.Region = cheapestRegion
		out.Notes = append(
			out.Notes, fmt.Sprintf("the catalogue has no prices of region %s: the prices are those of the cheapest region", r.Region),
		)
	}
	p, err := plan.Make(r, c, vllm.Engine{})
	var refusal *plan.Refusal
	switch {
	case errors.As(err, &refusal):
		out.Reason, out.Message = refusal.Reason, refusal.Message
		out.Model = r.Preset
		out.addCandidates(refusal.Candidates, r, c)
		return out
	case err != nil: // the planner's only error is a Refusal
		out.Reason, out.Message = "Error", err.Error()
		return out
	}
	out.Feasible, out.Model, out.Revision = true, p.Model.ID, p.Model.Revision
	out.PriceDate = p.PriceDate
	out.Notes = append(out.Notes, p.Warnings...)
	out.addCandidates(p.Candidates, r, c)
	if len(r.InstanceTypes) == 0 {
		// The chosen candidate is not always the cheapest: a pipeline over the network is used only if one node is too small.
		slices.SortStableFunc(out.Candidates[1:], cheaper)
	}
	out.Chosen = &out.Candidates[0]
	return out
}

// cheaper orders candidates by price: known prices, then unknown prices, then rejected candidates.
func cheaper(a, b choice) int {
	price := func(c choice) float64 {
		switch {
		case c.Rejected != "":
			return math.Inf(1)
		case c.CostPerHour == nil:
			return math.MaxFloat64
		}
		return *c.CostPerHour
	}
	return cmp.Compare(price(a), price(b))
}

func (out *planReport) addCandidates(candidates []plan.Candidate, r plan.Request, c *catalog.Catalog) {
	for _, candidate := range candidates {
		if candidate.Priced && out.PriceDate == "" {
			out.PriceDate = c.PriceDate()
		}
		if candidate.Rejected == "" {
			alone := r
			alone.InstanceTypes, alone.CapacityTypes = []string{candidate.InstanceType}, []string{candidate.CapacityType}
			if p, err := plan.Make(alone, c, vllm.Engine{}); err == nil {
				out.Candidates = append(out.Candidates, newChoice(p))
				continue
			}
		}
		out.Candidates = append(out.Candidates, rejected(candidate, r, c))
	}
}

func newChoice(p *plan.Plan) choice {
	out := choice{
		InstanceType:     p.InstanceType,
		CapacityType:     p.CapacityType,
		GPU:              gpu(p.Size),
		Nodes:            p.Nodes,
		GPUsPerNode:      p.GPUsPerNode,
		TensorParallel:   p.TensorParallel,
		PipelineParallel: p.PipelineParallel,
		DataParallel:     p.DataParallel,
		MaxModelLen:      p.MaxModelLen,
		Dtype:            p.Dtype,
		EngineImage:      p.Engine.Image,
		DiskGiB:          p.DiskGiB,
		Memory:           newMemory(p.Memory),
		CostPerHour:      cost(p.CostPerHour, p.Priced),
	}
	if p.Engine.Name != "" {
		out.Engine = p.Engine.Name + " " + p.Engine.Version
	}
	out.Args = p.Args.Words()
	return out
}

func rejected(candidate plan.Candidate, r plan.Request, c *catalog.Catalog) choice {
	out := choice{
		InstanceType:   candidate.InstanceType,
		CapacityType:   candidate.CapacityType,
		Nodes:          candidate.Nodes,
		TensorParallel: candidate.TensorParallel,
		MaxModelLen:    candidate.MaxModelLen,
		Memory:         newMemory(candidate.Memory),
		CostPerHour:    cost(candidate.CostPerHour, candidate.Priced),
		Cause:          string(candidate.Cause),
		Rejected:       candidate.Rejected,
	}
	if size, err := c.Size(candidate.InstanceType); err == nil {
		if partitioned, err := c.Partition(size, r.MIGProfile); r.MIGProfile != "" && err == nil {
			size = partitioned
		}
		out.GPU = gpu(size)
	}
	return out
}

func gpu(s catalog.Size) string {
	text := fmt.Sprintf("%d×%s-%s", s.GPUs, s.GPUModel, strconv.FormatFloat(s.MemoryGiB, 'f', -1, 64))
	if s.MIGProfile != "" {
		text = fmt.Sprintf("%d×%s %s", s.GPUs, s.GPUModel, s.MIGProfile)
	}
	return text
}

func newMemory(t plan.Terms) *memory {
	if t.Usable == 0 {
		return nil
	}
	gib := func(bytes float64) float64 { return math.Round(bytes/plan.GiB*100) / 100 }
	return &memory{
		Weights:     gib(t.Weights),
		KVCache:     gib(t.KVCache),
		Activations: gib(t.Activations),
		Free:        gib(t.Free),
		Usable:      gib(t.Usable),
		Overhead:    gib(t.Overhead),
		Device:      gib(t.Usable + t.Overhead),
	}
}

func cost(usd float64, priced bool) *float64 {
	if !priced {
		return nil
	}
	rounded := math.Round(usd*1000) / 1000
	return &rounded
}
