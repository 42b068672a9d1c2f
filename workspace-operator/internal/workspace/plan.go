// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/budget"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/plan"
	"kaito.sh/workspace-operator/internal/serving"
)

// planner decides what nodes are wanted and how the model is served.
type planner struct {
	catalog    *catalog.Catalog
	engine     engine.Engine
	prices     budget.Prices
	registries serving.Registries
	memory     *planMemory
}

func (p planner) plan(_ context.Context, s *scope) (flow.Result, error) {
	if s.released || s.blocked != nil || s.holds {
		return flow.Continue(), nil
	}
	made, err := p.memory.get(s.workspace.UID, planKey(s), func() (*plan.Plan, error) {
		var first *plan.Plan
		for _, st := range stagesToPlan(s) {
			made, err := plan.Make(p.request(s, st), p.catalog, p.engine)
			if err != nil {
				return nil, err
			}
			made.Candidates = nil // they would only cost memory
			if first == nil {
				first = made
			}
		}
		return first, nil
	})
	var refusal *plan.Refusal
	switch {
	case errors.As(err, &refusal):
		return refuse(s, refusal), nil
	case err != nil:
		return flow.Stop(), err
	}
	p.choose(s, made)
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.Planned }, s.now)
	return flow.Continue(), nil
}

// choose makes a plan the one of this pass.
func (p planner) choose(s *scope, made *plan.Plan) {
	status := made.Status()
	if s.stage == stageServe {
		status.WeightsImage = serving.NewEngine(made, s.workspace, p.engine, p.registries).WeightsImage
	}
	s.plan, s.chosen = made, &status
}

// request returns everything that the plan of a stage depends on.
func (p planner) request(s *scope, st stage) plan.Request {
	w := s.workspace
	r := plan.ForWorkspace(w, st == stageTune, p.prices.Region, s.inferenceConfig, s.trainingConfig)
	r.Model = s.models[presetOf(w, st)]
	r.Existing = s.existing.Candidates
	r.OnlyExisting = w.Resource.Provisioning == kaitov1alpha1.ProvisioningNever
	r.Resting, r.Keep = s.resting, keptChoice(s)
	if len(s.budgets) > 0 {
		r.Forbidden = func(made *plan.Plan) string {
			choice := made.Choice()
			return budget.Forbids(s.budgets, budget.Wish{
				InstanceType: choice.InstanceType, CapacityType: choice.CapacityType, Nodes: made.Nodes,
				Bill: p.prices.Bill(choice, 0),
			})
		}
	}
	return r
}

// keptChoice returns the choice of the claims that exist. They are kept unless more of the same choice is needed and
// the choice rests.
func keptChoice(s *scope) *plan.Choice {
	live := placement.Live(s.states)
	if len(live) == 0 {
		return nil
	}
	choice := live[0].Claim.Choice()
	if _, rests := s.resting[choice]; rests && len(live) < int(s.before.Status.TargetNodeCount) {
		return nil
	}
	return &choice
}

// refuse blocks the pass, and asks for another when a choice that rests may be tried again.
func refuse(s *scope, refusal *plan.Refusal) flow.Result {
	reason, message := explain(s, refusal)
	until := refusal.Until.Sub(s.now)
	if refusal.Until.IsZero() || until > placement.Forever/2 {
		s.block(stalled(reason, message))
		return flow.Continue()
	}
	s.block(unfinished(reason, fmt.Sprintf("%s; tried again at %s", message, refusal.Until.UTC().Format(time.RFC3339))))
	return flow.ContinueUntil(max(until, time.Second))
}

// explain returns the reason and the message of a refusal. Where every choice has failed, the last failure says more.
func explain(s *scope, r *plan.Refusal) (reason, message string) {
	attempts := s.workspace.Status.Attempts
	if r.Reason != kaitov1alpha1.ReasonAttemptsExhausted || len(attempts) == 0 {
		return r.Reason, r.Message
	}
	last := attempts[len(attempts)-1]
	if last.Reason == kaitov1alpha1.ReasonAcceleratorNotReady && restsForGood(s.resting, last.Time.Time) {
		return last.Reason, fmt.Sprintf(
			"nodes of every allowed size had no GPUs, and have been replaced %d times: %s. See NVIDIA's device plugin and "+
				"driver, then change resource.instanceType, or create the Workspace again", placement.Budget, last.Message)
	}
	return r.Reason, fmt.Sprintf("%s. The last failure, of %s (%s): %s: %s",
		r.Message, last.InstanceType, last.CapacityType, last.Reason, last.Message)
}

func restsForGood(resting map[plan.Choice]time.Time, since time.Time) bool {
	for _, until := range resting {
		if until.Sub(since) > placement.Forever/2 {
			return true
		}
	}
	return false
}

// planKey is equal for requests that have equal plans. The catalogue is not part of it: it does not change while the
// process runs.
func planKey(s *scope) string {
	parts := []string{string(s.stage), fmt.Sprint(s.workspace.Generation), s.inferenceConfig, s.trainingConfig}
	if keep := keptChoice(s); keep != nil {
		parts = append(parts, "keep", keep.InstanceType, string(keep.CapacityType))
	}
	for _, st := range []stage{stageTune, stageServe} {
		if m := s.models[presetOf(s.workspace, st)]; m != nil {
			parts = append(parts, "model", m.ID, m.Revision)
		}
	}
	for i := range s.budgets {
		parts = append(parts, "budget", string(s.budgets[i].UID), fmt.Sprint(s.budgets[i].Generation))
	}
	for _, choice := range slices.SortedFunc(maps.Keys(s.resting), func(a, b plan.Choice) int {
		return strings.Compare(a.InstanceType+string(a.CapacityType), b.InstanceType+string(b.CapacityType))
	}) {
		parts = append(parts, choice.InstanceType, string(choice.CapacityType), fmt.Sprint(s.resting[choice].Unix()))
	}
	for _, n := range s.existing.Candidates {
		allocatable := n.Status.Allocatable[kaitov1alpha1.ResourceNvidiaGPU]
		parts = append(parts, n.Name, n.Labels[corev1.LabelInstanceTypeStable], allocatable.String())
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// planMemory keeps the last plan of each Workspace: planning evaluates the whole catalogue, and most passes change none
// of its inputs.
type planMemory struct {
	mu   sync.Mutex
	kept map[types.UID]keptPlan
}

type keptPlan struct {
	key  string
	plan *plan.Plan
	err  error
}

func newPlanMemory() *planMemory { return &planMemory{kept: map[types.UID]keptPlan{}} }

func (m *planMemory) get(uid types.UID, key string, compute func() (*plan.Plan, error)) (*plan.Plan, error) {
	m.mu.Lock()
	kept, ok := m.kept[uid]
	m.mu.Unlock()
	if ok && kept.key == key {
		return kept.plan, kept.err
	}
	made, err := compute()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[uid] = keptPlan{key: key, plan: made, err: err}
	return made, err
}

func (m *planMemory) forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, uid)
}
