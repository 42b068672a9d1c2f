// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/budget"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// Stage is what nodes are wanted for.
type Stage string

const (
	// StageTune is fine-tuning.
	StageTune Stage = "tune"
	// StageServe is inference.
	StageServe Stage = "serve"
)

// Question is everything a plan depends on.
type Question struct {
	Workspace *kaitov1alpha1.Workspace
	Stage     Stage
	// InferenceConfig and TrainingConfig are the texts of the ConfigMaps that the Workspace names.
	InferenceConfig, TrainingConfig string
	// Model describes the stage's model where the catalogue does not have it; nil: the catalogue is asked.
	Model *catalog.Model
	// Nodes that match the Workspace and that nobody else uses.
	Nodes []corev1.Node
	// Resting choices have failed lately and are not asked for until then.
	Resting map[placement.Choice]time.Time
	// Keep is what the Workspace has: where the plan fits it, it stays.
	Keep *placement.Choice
	// Budgets are the GPUBudgets of the Workspace's namespace: what none of them could ever allow is not planned for new
	// nodes.
	Budgets []kaitov1alpha1.GPUBudget
}

// Plan is what was decided.
type Plan struct {
	// Status is what the Workspace shows.
	Status kaitov1alpha1.PlanStatus
	// SizeGPUs is how many GPUs a node of the size can allocate.
	SizeGPUs int64
	// DiskGiB is the ephemeral storage that image, weights and adapters need.
	DiskGiB int64
	// Engine serves the model; its zero value when only tuning is planned.
	Engine serving.Engine
}

// Refusal is why nothing is planned. It is an error so that it travels as one, and it is final until an input changes,
// or Until.
type Refusal struct {
	// Reason is one of the Workspace's.
	Reason string
	// Message has the numbers and the remedy.
	Message string
	// Until is when a choice that rests may be tried again; zero: when an input has changed.
	Until time.Time
}

func (r *Refusal) Error() string { return r.Reason + ": " + r.Message }

// Biller says what a node of a size counts for in a GPUBudget. A Planner that is none knows no prices and no sizes.
type Biller interface {
	// Bill has the GPUs of the whole node, 0 where the size is not known, and its list price.
	Bill(instanceType string, capacityType kaitov1alpha1.CapacityType) budget.Bill
}

// Planner decides purely: the same question has the same answer. The error is a *Refusal.
type Planner interface {
	Plan(Question) (*Plan, error)
}
