// SPDX-License-Identifier: Apache-2.0

// Package plan decides what a model runs on: a pure function from a question and the catalogue to a plan with its
// arithmetic, or to a typed refusal with every candidate and why it fell. Nothing else decides, so what it
// answers is what is made.
package plan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// Mode says what a plan is for.
type Mode string

// The modes.
const (
	// ModeInference serves a preset.
	ModeInference Mode = "inference"
	// ModeTuning tunes a preset by LoRA or QLoRA.
	ModeTuning Mode = "tuning"
	// ModeTemplate runs a pod template of the user's: nothing is known of its memory.
	ModeTemplate Mode = "template"
)

// Limits that are the planner's own.
const (
	// MinContext is the shortest context worth serving, tokens: under it a candidate falls.
	MinContext = 2048
	// MaxNodes bounds the nodes of a plan whose count the user leaves open.
	MaxNodes = 8
)

// Choice is a size and a way to rent it.
type Choice struct {
	InstanceType string
	CapacityType kaitov1alpha1.CapacityType
}

// Request is everything that a plan depends on.
type Request struct {
	Mode Mode
	// Model describes a model that the catalogue does not have, as catalog.ModelFromConfig read it; nil: Preset is looked
	// up.
	Model *catalog.Model
	// Preset is a name, an alias or an id of the catalogue, with an optional @revision. Unused with ModeTemplate.
	Preset string
	// InstanceTypes to try in order; empty: the cheapest feasible size. Never empty with ModeTemplate.
	InstanceTypes []string
	// CapacityTypes to try in order; empty: on-demand.
	CapacityTypes []string
	// Count bounds the nodes; nil: as many as are needed.
	Count *int
	// MIGProfile cuts the GPUs; empty: whole ones. Slices is how many GPUs of a node are taken; 0: all. Of MIG instances
	// one is taken: a process sees no second.
	MIGProfile string
	Slices     int
	// Region that prices are looked up in; empty: the cheapest region's.
	Region string
	// Sizes replaces the catalogue's sizes and InstanceTypes. Empty: the catalogue is used.
	Sizes []catalog.Size
	// Existing are nodes of the cluster that may be used at no cost. A plan for them is preferred to one for new nodes.
	Existing []corev1.Node
	// OnlyExisting forbids new nodes (resource.provisioning is Never).
	OnlyExisting bool
	// Keep is the choice of the nodes that were rented before. A plan that fits it is preferred to all others. Optional.
	Keep *Choice
	// Resting maps each choice that failed lately to the time at which it may be tried again.
	Resting map[Choice]time.Time
	// Forbidden returns why a plan may not be rented, for instance because of a GPUBudget; empty: it may. Optional.
	Forbidden func(*Plan) string
	// InferenceConfig is the text of inference_config.yaml, TrainingConfig that of training_config.yaml.
	InferenceConfig, TrainingConfig string
	// Adapters is the number of LoRA adapters served, AdapterRank the highest rank among them (0: the
	// engine's default).
	Adapters    int
	AdapterRank int
	// Method of tuning: lora or qlora, in any case; empty: lora.
	Method string
}

// Plan is what was decided.
type Plan struct {
	InstanceType string
	CapacityType string
	// Size is the catalogue's, cut by the MIG profile.
	Size catalog.Size
	// Nodes, and how many GPUs (or MIG instances) of each are used.
	Nodes       int
	GPUsPerNode int
	// TensorParallel GPUs share each layer, PipelineParallel stages share the layers, DataParallel copies answer.
	TensorParallel, PipelineParallel, DataParallel int
	// MaxModelLen is the longest context when serving, the sequence length when tuning; tokens.
	MaxModelLen int
	Dtype       string
	Model       catalog.Model
	Engine      catalog.Engine
	// Quantization that the engine applies while loading; empty: as published.
	Quantization string
	Memory       Terms
	// CostPerHour of all nodes, US dollars; PriceDate the day of the list; Priced false: no price is known.
	CostPerHour float64
	PriceDate   string
	Priced      bool
	// Warnings are what the user should know of the choice.
	Warnings []string
	// Args are the engine's flags. OwnTemplate: the user names a chat template in them.
	Args        engine.Flags
	OwnTemplate bool
	// AdapterRank is the highest rank of adapters that the engine is started for; 0: there are none.
	AdapterRank int
	// DiskGiB is what image, weights, adapters and checkpoints need on the node.
	DiskGiB int
	// Candidates are all that were looked at, the chosen one first.
	Candidates []Candidate
}

// Terms are what fills one GPU, bytes. Weights+KVCache+Activations+Free is usable; Usable+Overhead is the device's
// memory.
type Terms struct {
	Weights, KVCache, Activations, Overhead, Free, Usable float64
}

// Candidate is one choice that was looked at.
type Candidate struct {
	InstanceType, CapacityType string
	Nodes                      int
	TensorParallel             int
	Memory                     Terms
	MaxModelLen                int
	CostPerHour                float64
	Priced                     bool
	// Rejected is why it fell, with the numbers; empty: feasible.
	Rejected string
	// Cause is Rejected in a word.
	Cause Cause
}

// Refusal is why nothing is planned. It is final until an input changes, or until Until.
type Refusal struct {
	// Reason is one of the Workspace's reasons.
	Reason string
	// Message has the numbers and the remedy.
	Message string
	// Until is when a choice that rests may be tried again; zero: when an input has changed.
	Until time.Time
	// Candidates are all that were looked at.
	Candidates []Candidate
}

func (r *Refusal) Error() string { return r.Reason + ": " + r.Message }

// Cause is why a candidate fell.
type Cause string

// The causes.
const (
	CauseMemory     Cause = "InsufficientGPUMemory"        // the minimum context does not fit on the allowed nodes
	CauseContext    Cause = "ContextTooLong"               // the user's max-model-len does not fit
	CauseCapability Cause = "UnsupportedComputeCapability" // no engine serves the GPU
	CauseModel      Cause = "UnsupportedModelOnGPU"        // the GPU does not support the engine, dtype or quantization
	CauseConfig     Cause = "InvalidConfig"                // the GPU's engine refuses the configuration
	CauseNoGPU      Cause = "NoGPU"                        // a node that is there, without a GPU to allocate
	CausePartition  Cause = "InvalidPartition"
	CauseAdapters   Cause = "AdaptersUnsupported"
	CauseResting    Cause = "OfferingUnavailable" // failed lately
	CauseBudget     Cause = "BudgetExceeded"      // a GPUBudget does not allow it, even if nothing is in use
)

// fall is a verdict against a candidate; nil is one in its favour.
type fall struct {
	cause Cause
	text  string
}

func fell(cause Cause, format string, args ...any) *fall {
	return &fall{cause: cause, text: fmt.Sprintf(format, args...)}
}

// GiB is 2^30 bytes.
const GiB = 1 << 30

func infeasible(message string) *Refusal {
	return &Refusal{Reason: kaitov1alpha1.ReasonInfeasible, Message: message}
}
