package controller_test

import (
	"testing"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/controller"
	"kaito.sh/workspace-operator/internal/node"
	"kaito.sh/workspace-operator/internal/workload"
)

type stubPlanner struct{}

func planner(*testing.T) controller.Planner { return stubPlanner{} }

func (stubPlanner) Plan(q controller.Question) (*controller.Plan, error) {
	w := q.Workspace
	size := w.Resource.InstanceType
	if len(w.Resource.InstanceTypes) > 0 {
		size = ""
		for _, s := range w.Resource.InstanceTypes {
			if _, rests := q.Resting[node.Choice{InstanceType: s, CapacityType: kaitov1alpha1.CapacityOnDemand}]; !rests {
				size = s
				break
			}
		}
		if size == "" {
			return nil, &controller.Refusal{Reason: kaitov1alpha1.ReasonAttemptsExhausted}
		}
	}
	nodes := int32(1)
	if w.Resource.Count != nil {
		nodes = *w.Resource.Count
	}
	return &controller.Plan{
		Status:   kaitov1alpha1.PlanStatus{InstanceType: size, CapacityType: kaitov1alpha1.CapacityOnDemand, Nodes: nodes, GPUsPerNode: 1, Memory: &kaitov1alpha1.MemoryPlan{Weights: "7.2"}},
		SizeGPUs: 1, DiskGiB: 60,
		Engine: workload.Engine{Image: "example.com/engine:1", Model: "microsoft/x", GPUResource: kaitov1alpha1.ResourceNvidiaGPU, GPUs: 1, WeightsBytes: 1 << 30},
	}, nil
}
