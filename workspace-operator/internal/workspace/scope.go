// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/placement"
)

// outcome is what a stage has come to; it becomes a condition.
type outcome struct {
	status          metav1.ConditionStatus
	reason, message string
	// stalled: a person must act.
	stalled bool
}

func yes(reason, message string) outcome {
	return outcome{status: metav1.ConditionTrue, reason: reason, message: message}
}

func no(reason, message string) outcome {
	return outcome{status: metav1.ConditionFalse, reason: reason, message: message}
}

func stuck(reason, message string) outcome {
	return outcome{status: metav1.ConditionFalse, reason: reason, message: message, stalled: true}
}

func (o outcome) ok() bool { return o.status == metav1.ConditionTrue }

var pending = no(kaitov1alpha1.ReasonPending, "an earlier stage has not ended")

// scope is one pass over one Workspace: what was read, what was decided, and what the status will say.
type scope struct {
	workspace *kaitov1alpha1.Workspace
	// before is the Workspace as it was read: it is what the status patch is made from, and what the past is read from.
	before *kaitov1alpha1.Workspace
	// stored is the status that the API server has: before may hold one that is kept back.
	stored kaitov1alpha1.WorkspaceStatus
	now    time.Time

	inferenceConfig, trainingConfig string

	// api asks for new nodes; nil when neither kind is served.
	api    placement.API
	states []placement.State
	// candidates are nodes that were there and that nobody else uses; held are those of them that this Workspace had
	// chosen before, and own those that it has chosen now.
	candidates []corev1.Node
	held       map[string]bool
	own        []corev1.Node
	// down are nodes that it had chosen and that are not usable for the moment.
	down []corev1.Node
	// missing are the ordinals that have no claim; placed: there are none, or nothing can be done about them.
	missing []int
	placed  bool
	// asked: claims were created in this pass.
	asked bool
	// budgets are the GPUBudgets of the namespace, by name.
	budgets []kaitov1alpha1.GPUBudget
	// refused is why the missing claims are not created; nil: nothing keeps them from it. recheck is when it is to be
	// asked again though no event comes; 0: never. unseen: what refuses them is not in the cache yet.
	refused *outcome
	recheck time.Duration
	unseen  bool
	// nodes are all that are usable.
	nodes []corev1.Node

	// server is the Deployment or the StatefulSet that serves, and other the one of the other kind, where there is one.
	server, other *server
	service       *corev1.Service

	stage Stage
	// job is the TuningJob, while the model is not tuned; nil: there is none.
	job *tuningv1alpha1.TuningJob
	// models are those of the presets' names that the catalogue does not have.
	models map[string]*catalog.Model
	// plan is the one made in this pass; nil while the one in the status holds, since the workload that is there was made
	// from the present inputs, and when there is none.
	plan *Plan
	// replacement is the plan that nodes are asked for by while the workload's own holds.
	replacement *Plan

	// what the stages have come to
	blocked   *outcome // nothing may be created
	claims    outcome
	resource  outcome
	started   outcome
	inference outcome
	// released: the nodes are given back on purpose; failedTuning: because the TuningJob has failed.
	released, failedTuning bool
	changes                []change
}

// change is a thing worth an event.
type change struct {
	reason, message string
	warning         bool
}

func (s *scope) warn(reason, message string) {
	s.changes = append(s.changes, change{reason: reason, message: message, warning: true})
}

// tuning says whether the Workspace has a tuning section, and tunedAlready whether the adapter is there.
func (s *scope) tuning() bool { return s.workspace.Tuning != nil }

func (s *scope) tunedAlready() bool {
	m := s.before.Status.Milestones
	return m != nil && m.Tuned != nil
}

// serves says whether the Workspace serves anything, now or later.
func (s *scope) serves() bool {
	w := s.workspace
	return w.Inference != nil || w.Tuning != nil && w.Tuning.Serve != kaitov1alpha1.ServeNever
}

// milestone sets a time once.
func (s *scope) milestone(at func(*kaitov1alpha1.Milestones) **metav1.Time, when time.Time) {
	if s.workspace.Status.Milestones == nil {
		s.workspace.Status.Milestones = &kaitov1alpha1.Milestones{}
	}
	if t := at(s.workspace.Status.Milestones); *t == nil {
		now := metav1.NewTime(when.Truncate(time.Second))
		*t = &now
	}
}

// choice is the size and capacity type of the plan that counts.
func (s *scope) choice() placement.Choice {
	p := s.planStatus()
	if p == nil {
		return placement.Choice{}
	}
	return placement.Choice{InstanceType: p.InstanceType, CapacityType: p.CapacityType}
}

// planStatus is the plan that counts: the new one, or the one that holds.
func (s *scope) planStatus() *kaitov1alpha1.PlanStatus {
	if s.plan != nil {
		return &s.plan.Status
	}
	return s.workspace.Status.Plan
}
