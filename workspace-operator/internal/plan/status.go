// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strconv"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Choice returns the size and capacity type of the plan.
func (p *Plan) Choice() Choice {
	return Choice{InstanceType: p.InstanceType, CapacityType: kaitov1alpha1.CapacityType(p.CapacityType)}
}

// Status returns the plan as a Workspace's status shows it. Memory is in GiB, the cost in US dollars an hour.
func (p *Plan) Status() kaitov1alpha1.PlanStatus {
	//nolint:gosec // the numbers are bounded by the schema and the catalogue
	out := kaitov1alpha1.PlanStatus{
		InstanceType: p.InstanceType, CapacityType: kaitov1alpha1.CapacityType(p.CapacityType),
		Nodes: int32(p.Nodes), GPUsPerNode: int32(p.GPUsPerNode),
		TensorParallel: int32(p.TensorParallel), PipelineParallel: int32(p.PipelineParallel),
		DataParallel: int32(p.DataParallel), MaxModelLen: int64(p.MaxModelLen), DType: p.Dtype,
		EngineImage: p.Engine.Image, Model: p.Model.ID, Revision: p.Model.Revision, Warnings: p.Warnings,
	}
	if p.Priced {
		out.CostPerHour, out.PriceDate = strconv.FormatFloat(p.CostPerHour, 'f', 3, 64), p.PriceDate
	}
	if p.Memory.Usable > 0 {
		out.Memory = &kaitov1alpha1.MemoryPlan{
			Weights: gib(p.Memory.Weights), KVCache: gib(p.Memory.KVCache), Activations: gib(p.Memory.Activations),
			Overhead: gib(p.Memory.Overhead), Free: gib(p.Memory.Free),
		}
	}
	return out
}

func gib(bytes float64) string { return strconv.FormatFloat(bytes/GiB, 'f', 2, 64) }
