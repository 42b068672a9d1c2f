// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/plan"
	"kaito.sh/workspace-operator/internal/serving"
	"kaito.sh/workspace-operator/internal/tuning"
)

// scope is one pass over one Workspace: what was observed, what was decided, and what the status will say.
type scope struct {
	// workspace is the object of the pass. The pass changes its status and nothing else.
	workspace *kaitov1alpha1.Workspace
	// before is the Workspace as the pass began: with the status that is held back, if there is one.
	before *kaitov1alpha1.Workspace
	// stored is the status that the API server has.
	stored kaitov1alpha1.WorkspaceStatus
	now    time.Time

	observed
	decided
	outcomes
}

// observed is what exists. The step that fills a field is in brackets.
type observed struct {
	api      placement.API             // [observe] the kind of new claims; nil: the cluster serves none that is allowed
	states   []placement.State         // [observe] the claims and their nodes
	existing placement.Existing        // [observe] nodes that existed before and that may be used
	found    serving.Found             // [observe] the server and its Service; [serve] what was applied
	job      tuningJob                 // [observe] the TuningJob of a model that is not tuned yet
	budgets  []kaitov1alpha1.GPUBudget // [observe] of the namespace, by name

	inferenceConfig string                    // [configure] text of inference_config.yaml
	trainingConfig  string                    // [configure] text of training_config.yaml
	models          map[string]*catalog.Model // [models] the models that the catalogue does not have, by preset name
}

// tuningJob is what observe reads of the TuningJob.
type tuningJob struct {
	served bool                      // the cluster serves the kind
	object *tuningv1alpha1.TuningJob // nil: there is none
	ours   bool
	result tuning.Result
}

// failed returns whether the TuningJob of this Workspace has ended without a result.
func (j tuningJob) failed() bool {
	return j.object != nil && j.ours && j.object.DeletionTimestamp == nil && j.result.Phase == tuning.Failed
}

// decided is what the pass has chosen.
type decided struct {
	stage    stage                     // [stage]
	released bool                      // [stage] no node is wanted
	resting  map[plan.Choice]time.Time // [stage] choices that failed lately, and until when they are not asked for
	holds    bool                      // [stage] the plan in the status is still valid
	plan     *plan.Plan                // [plan] nil: the plan in the status is valid, or there is none
	chosen   *kaitov1alpha1.PlanStatus // [plan] the new plan as the status shows it
	own      []corev1.Node             // [place] the existing nodes that were chosen
	nodes    []corev1.Node             // [place] all usable nodes
	missing  []int                     // [place] the ordinals without a claim
	placed   bool                      // [place] all claims exist, or none can be created
	asked    bool                      // [place] claims were created in this pass
	recheck  time.Duration             // [place] when to ask again although no event will come; 0: never
}

// outcomes is what the steps have come to.
type outcomes struct {
	blocked   *outcome  // [configure, stage, models, plan, secrets] why nothing may be created
	refused   *outcome  // [place] why the missing claims are not created
	claims    outcome   // [place] of the claims
	resource  outcome   // [place] of all nodes
	started   outcome   // [tune]
	inference outcome   // [serve]
	warnings  []warning // [judge, status] what is published as events
}

// stage is what nodes are wanted for.
type stage string

const (
	stageTune  stage = "tune"
	stageServe stage = "serve"
)

// outcome is what a step has come to; it becomes a condition.
type outcome struct {
	status          metav1.ConditionStatus
	reason, message string
	// stalled: a person must act.
	stalled bool
}

func (o outcome) ok() bool { return o.status == metav1.ConditionTrue }

func succeeded(reason, message string) outcome {
	return outcome{status: metav1.ConditionTrue, reason: reason, message: message}
}

func unfinished(reason, message string) outcome {
	return outcome{status: metav1.ConditionFalse, reason: reason, message: message}
}

func stalled(reason, message string) outcome {
	return outcome{status: metav1.ConditionFalse, reason: reason, message: message, stalled: true}
}

var pending = unfinished(kaitov1alpha1.ReasonPending, "an earlier stage has not ended")

// warning is published as an event.
type warning struct{ reason, message string }

func (s *scope) warn(reason, message string) {
	s.warnings = append(s.warnings, warning{reason, message})
}

// block keeps anything from being created. The first reason stays.
func (s *scope) block(o outcome) {
	if s.blocked == nil {
		s.blocked = &o
	}
}

// blockedOr returns the reason why nothing may be created, or an outcome.
func (s *scope) blockedOr(o outcome) outcome {
	if s.blocked != nil {
		return *s.blocked
	}
	return o
}

func (s *scope) key() types.NamespacedName { return client.ObjectKeyFromObject(s.workspace) }

// tunes returns whether the Workspace has a tuning section.
func (s *scope) tunes() bool { return s.workspace.Tuning != nil }

// tuned returns whether the model has been tuned. It stays tuned when the TuningJob is deleted.
func (s *scope) tuned() bool {
	m := s.before.Status.Milestones
	return m != nil && m.Tuned != nil
}

// serves returns whether the Workspace serves a model, now or after tuning.
func (s *scope) serves() bool {
	w := s.workspace
	return w.Inference != nil || w.Tuning != nil && w.Tuning.Serve != kaitov1alpha1.ServeNever
}

// requested returns whether nodes have been asked for, or existing nodes chosen.
func (s *scope) requested() bool {
	return len(s.states) > 0 || s.before.Status.TargetNodeCount > 0 || s.found.Server != nil
}

// releasing returns whether a node of the Workspace is being released.
func (s *scope) releasing() bool {
	return slices.ContainsFunc(s.states, func(st placement.State) bool { return st.Phase == placement.Deleting })
}

// planStatus returns the plan that is valid: the new one, or the one in the status. nil: there is none.
func (s *scope) planStatus() *kaitov1alpha1.PlanStatus {
	if s.chosen != nil {
		return s.chosen
	}
	return s.workspace.Status.Plan
}

// choice returns the size and capacity type of the valid plan.
func (s *scope) choice() plan.Choice {
	p := s.planStatus()
	if p == nil {
		return plan.Choice{}
	}
	return plan.Choice{InstanceType: p.InstanceType, CapacityType: p.CapacityType}
}

// several returns whether one server of the valid plan takes several nodes.
func (s *scope) several() bool {
	p := s.planStatus()
	return p != nil && p.Nodes > 1 && !s.hasTemplate()
}

func (s *scope) hasTemplate() bool {
	return s.workspace.Inference != nil && s.workspace.Inference.Template != nil
}

// nodeLabels returns labels that all nodes of the Workspace have, and, as far as labels can tell, no other nodes.
func (s *scope) nodeLabels() map[string]string {
	if len(s.own) == 0 {
		return map[string]string{kaitov1alpha1.LabelWorkspaceUID: string(s.workspace.UID)}
	}
	out := map[string]string{}
	if selector := s.workspace.Resource.LabelSelector; selector != nil {
		for key, value := range selector.MatchLabels {
			out[key] = value
		}
	}
	if len(s.nodes) == 1 {
		if host := s.nodes[0].Labels[corev1.LabelHostname]; host != "" {
			out[corev1.LabelHostname] = host
		}
	}
	return out
}

// owner returns the reference of an object that is deleted with the Workspace.
func (s *scope) owner() metav1.OwnerReference {
	w := s.workspace
	return metav1.OwnerReference{
		APIVersion: kaitov1alpha1.GroupVersion.String(), Kind: "Workspace", Name: w.Name, UID: w.UID,
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	}
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

// soonest returns the smaller of two deadlines, where 0 is none.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
