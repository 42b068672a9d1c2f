// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/observe"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// The Service stands in front of what serves.
// +kubebuilder:rbac:groups="",resources=services,verbs=list;watch;create;patch
// Pods of one server on several nodes go together, or not at all.
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=list;watch;create;patch
// Only the gateway of a serving pod can be reached from other pods.
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=list;watch;create;patch
// Pods tell why a workload does not serve.
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch

// AnnotationAPIKeys on a Workspace names the Secret whose key "keys" holds one API key a line; without it none is asked
// for.
const AnnotationAPIKeys = "kaito.sh/api-keys"

// AnnotationLoadBalancer on a Workspace, "true", asks for an address outside the cluster. It is KAITO's, and is refused
// without API keys.
const AnnotationLoadBalancer = "kaito.sh/enablelb"

func public(w *kaitov1alpha1.Workspace) bool {
	return strings.EqualFold(w.Annotations[AnnotationLoadBalancer], "true")
}

// serve brings up the workload on the nodes, and says whether it answers.
func (r *Reconciler) serve(ctx context.Context, s *scope) (flow.Result, error) {
	if !s.serves() {
		s.inference = no(kaitov1alpha1.ReasonNotNeeded, "tuning.serve is Never: nothing is served")
		return flow.Continue(), nil
	}
	if s.released {
		s.inference = no(kaitov1alpha1.ReasonScaledToZero, "resource.count is 0: nothing is served")
		return flow.Continue(), r.stopServing(ctx, s)
	}
	s.pick()
	if err := r.applyBudget(ctx, s); err != nil {
		return r.unapplied(s, err)
	}
	if s.plan != nil && s.resource.ok() && s.blocked == nil {
		if err := r.applyWorkload(ctx, s); err != nil {
			return r.unapplied(s, err)
		}
	}
	if s.server == nil {
		s.inference = s.unserved()
		return flow.Continue(), nil
	}
	if err := r.applyFence(ctx, s); err != nil {
		return r.unapplied(s, err)
	}
	if err := r.applyPool(ctx, s); err != nil {
		return r.unapplied(s, err)
	}
	return r.readWorkload(ctx, s)
}

func (s *scope) unserved() outcome {
	if s.blocked != nil {
		return *s.blocked
	}
	return pending
}

// untilNameIsFree reconciles again after a while. The object that has the name carries no label of ours, so its
// deletion is not watched.
func (r *Reconciler) untilNameIsFree() flow.Result { return flow.StopUntil(r.options.SecretRecheck) }

// unapplied types the errors that a person must act on; all others are tried again.
func (r *Reconciler) unapplied(s *scope, err error) (flow.Result, error) {
	var taken *patch.TakenError
	var refused *specError
	var invalid *embedded.InvalidError
	switch {
	case errors.As(err, &taken):
		s.inference = stuck(kaitov1alpha1.ReasonNameTaken, taken.Error())
		return r.untilNameIsFree(), nil
	case errors.As(err, &refused):
		s.inference = stuck(kaitov1alpha1.ReasonInvalidSpec, refused.message)
		return flow.Stop(), nil
	case errors.As(err, &invalid):
		s.inference = stuck(kaitov1alpha1.ReasonInvalidSpec, invalid.Error())
		return flow.Stop(), nil
	case apierrors.IsInvalid(err):
		s.inference = stuck(kaitov1alpha1.ReasonInvalidSpec, "the API server refuses the workload: "+err.Error())
		return flow.Stop(), nil
	case apierrors.IsForbidden(err):
		f := observe.Refused(err.Error())
		s.inference = no(f.Reason, f.Message)
	}
	return flow.Stop(), err
}

// specError is a Workspace that contradicts itself in a way that the schema can't tell.
type specError struct{ message string }

func (e *specError) Error() string { return e.message }

func (r *Reconciler) applyWorkload(ctx context.Context, s *scope) error {
	in, err := r.workloadInput(s)
	if err != nil {
		return err
	}
	if err := owned(s); err != nil {
		return err
	}
	// Neither needs the other, and a Service's address takes a while to be found: one does not wait for the other.
	var service, server error
	var both sync.WaitGroup
	both.Go(func() {
		service = r.applyService(ctx, s, in)
	})
	server = r.applyServer(ctx, s, in)
	both.Wait()
	return errors.Join(service, server)
}

func (r *Reconciler) applyService(ctx context.Context, s *scope, in serving.Input) error {
	applied, err := patch.Apply(
		ctx, r.client, kaitov1alpha1.FieldManager, serving.Service(in), r.drift.current(object(s.service)),
	)
	if err != nil || !applied || s.service == nil {
		return err
	}
	now, err := get(ctx, r.client, s.workspace, &corev1.Service{})
	if now != nil {
		r.drift.repaired(now)
	}
	return err
}

// applyServer renders the Deployment or the StatefulSet anew when what it was made from has changed.
func (r *Reconciler) applyServer(ctx context.Context, s *scope, in serving.Input) error {
	if s.server.inputs() == in.Hash && !r.drift.found(s.server.object) {
		return r.remove(ctx, s.workspace, s.other)
	}
	log.FromContext(ctx).Info("Applying the workload", "inputs", in.Hash)
	// The two kinds would hold the same GPUs.
	if err := r.remove(ctx, s.workspace, s.other); err != nil {
		return err
	}
	var current client.Object
	if s.server != nil {
		current = r.drift.current(s.server.object)
	}
	var want client.Object = serving.Deployment(in)
	if in.Several() {
		want = serving.StatefulSet(in)
	}
	if err := r.applyBeside(ctx, in); err != nil {
		return err
	}
	if _, err := patch.Apply(ctx, r.client, kaitov1alpha1.FieldManager, want, current); err != nil {
		return err
	}
	s.server, s.other = nil, nil
	if err := r.findServer(ctx, s); err != nil {
		return err
	}
	s.pick()
	if s.server != nil {
		r.drift.repaired(s.server.object)
	}
	return nil
}

// applyBeside makes what a server has besides: the policy that closes its ports, before there is a pod, and what
// several nodes need.
func (r *Reconciler) applyBeside(ctx context.Context, in serving.Input) error {
	if err := r.applyPolicy(ctx, in); err != nil {
		return err
	}
	if !in.Several() {
		return nil
	}
	if err := r.applyChild(ctx, in.Workspace, serving.Peers(in)); err != nil {
		return err
	}
	return r.applyChild(ctx, in.Workspace, serving.DisruptionBudget(in))
}

func (r *Reconciler) applyPolicy(ctx context.Context, in serving.Input) error {
	if !in.Fenced() {
		return nil
	}
	return r.applyChild(ctx, in.Workspace, serving.NetworkPolicy(in))
}

// applyFence closes the ports of a server that another build made, or whose policy was deleted: a server that holds is
// not rendered again, and its pods stay.
func (r *Reconciler) applyFence(ctx context.Context, s *scope) error {
	if owned(s) != nil {
		return nil
	}
	in := s.surroundings()
	if in.Public && s.plan == nil && s.service != nil {
		if err := r.applyService(ctx, s, in); err != nil {
			return err
		}
	}
	return r.applyPolicy(ctx, in)
}

// surroundings is the input of what stands beside a server: it depends on neither engine nor images.
func (s *scope) surroundings() serving.Input {
	w := s.workspace
	in := serving.Input{
		Workspace: w,
		Labels:    placement.OwnerLabels(w),
		Owner:     ownerOf(w),
		Releasing: s.releasing(),
		Public:    public(w),
	}
	if p := s.planStatus(); p != nil {
		in.Placement.Nodes = p.Nodes
	}
	if w.Inference != nil && w.Inference.Template != nil {
		in.Template = &corev1.PodTemplateSpec{} // that there is one is all that counts here
	}
	return in
}

// applyBudget has the pods of a server of several nodes go while one of its nodes is given back, and else stay: its own
// budget would keep that node from being drained for ever.
func (r *Reconciler) applyBudget(ctx context.Context, s *scope) error {
	if s.server == nil {
		return nil
	}
	if _, several := s.server.object.(*appsv1.StatefulSet); !several || owned(s) != nil {
		return nil
	}
	return r.applyChild(ctx, s.workspace, serving.DisruptionBudget(s.surroundings()))
}

// releasing says whether a node of the Workspace is being given back.
func (s *scope) releasing() bool {
	return slices.ContainsFunc(s.states, func(state placement.State) bool { return state.Phase == placement.Deleting })
}

// applyChild applies an object of the Workspace, unless an object of its name has another owner.
func (r *Reconciler) applyChild(ctx context.Context, owner *kaitov1alpha1.Workspace, child client.Object) error {
	_, err := patch.ApplyOwned(ctx, r.client, r.client, kaitov1alpha1.FieldManager, owner, child)
	return err
}

var errNotOurs = errors.New("its controller is not this Workspace")

// object keeps a nil pointer from becoming an interface that is not nil.
func object[T any, P interface {
	*T
	client.Object
}](p P) client.Object {
	if p == nil {
		return nil
	}
	return p
}

// owned refuses to write to what another Workspace, or a person who copied labels, has made.
func owned(s *scope) error {
	check := func(kind string, obj client.Object) error {
		if metav1.IsControlledBy(obj, s.workspace) {
			return nil
		}
		return &patch.TakenError{Kind: kind, Key: client.ObjectKeyFromObject(obj), Cause: errNotOurs}
	}
	if s.service != nil {
		if err := check("Service", s.service); err != nil {
			return err
		}
	}
	if s.server != nil {
		return check("workload", s.server.object)
	}
	return nil
}

func (r *Reconciler) workloadInput(s *scope) (serving.Input, error) {
	w := s.workspace
	in := serving.Input{
		Workspace: w, Labels: placement.OwnerLabels(w), Owner: ownerOf(w),
		Public:    public(w),
		Placement: serving.Placement{Nodes: s.plan.Status.Nodes},
		Releasing: s.releasing(),
	}
	var err error
	if in.Template, err = templateOf(w); err != nil {
		return in, err
	}
	in.Hash = s.inputs(&s.plan.Status)
	in.Engine = s.plan.Engine
	in.Images = r.options.Images
	in.Authorities = r.options.Authorities
	in.ModelHub = r.options.mirror()
	in.ImageVolumes = r.imageVolumes(s.nodes)
	in.APIKeySecret = w.Annotations[AnnotationAPIKeys]
	if len(s.own) == 0 {
		in.Placement.Selector = s.nodeLabels()
	} else {
		for _, n := range s.nodes {
			in.Placement.Names = append(in.Placement.Names, hostname(n))
		}
	}
	return in, adapters(w, &in)
}

// hostname is what node affinity can name a node by.
func hostname(n corev1.Node) string {
	if h := n.Labels[corev1.LabelHostname]; h != "" {
		return h
	}
	return n.Name
}

// readWorkload says whether the workload answers, and why not.
func (r *Reconciler) readWorkload(ctx context.Context, s *scope) (flow.Result, error) {
	s.workspace.Status.Endpoint = serving.Endpoint(s.workspace)
	if s.server.answers {
		s.inference = yes(kaitov1alpha1.ReasonReady, "the engine answers at "+serving.Endpoint(s.workspace))
		if m := s.before.Status.Milestones; m == nil || m.EngineReady == nil {
			return flow.Continue(), r.noteTimes(ctx, s)
		}
		return flow.Continue(), nil
	}
	s.inference = no(kaitov1alpha1.ReasonStarting, "the engine starts")
	pods, err := r.pods(ctx, s)
	if err != nil {
		return flow.Stop(), err
	}
	failure, recheck := observe.Pods(pods, s.now)
	if failure == nil || failure.Reason == kaitov1alpha1.ReasonUnschedulable {
		if s.server.failure != nil {
			failure = s.server.failure
		}
	}
	// While nodes are missing a pod that fits none is no news.
	if failure != nil && (s.resource.ok() || failure.Reason != kaitov1alpha1.ReasonUnschedulable) {
		s.inference = no(failure.Reason, failure.Message)
		s.inference.stalled = observe.NeedsPerson(failure.Reason)
	}
	if recheck > 0 {
		return flow.ContinueUntil(recheck), nil
	}
	return flow.Continue(), nil
}

func (r *Reconciler) pods(ctx context.Context, s *scope) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	if err := r.client.List(
		ctx,
		list,
		client.InNamespace(s.workspace.Namespace),
		client.MatchingFields{
			indexOwnerUID: string(s.workspace.UID),
		},
		client.MatchingLabels{serving.LabelComponent: serving.ComponentInference},
	); err != nil {
		return nil, fmt.Errorf("listing the workload's pods: %w", err)
	}
	return list.Items, nil
}

// noteTimes takes over when the images were there and the weights were fetched, once, together with the time at which
// the engine answered.
func (r *Reconciler) noteTimes(ctx context.Context, s *scope) error {
	pods, err := r.pods(ctx, s)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		for _, c := range pod.Status.ContainerStatuses {
			if c.Name == serving.ContainerEngine && c.State.Running != nil {
				s.milestone(
					func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.ImagePulled }, c.State.Running.StartedAt.Time,
				)
			}
		}
		for _, c := range pod.Status.InitContainerStatuses {
			if c.State.Terminated != nil {
				s.milestone(
					func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.WeightsReady }, c.State.Terminated.FinishedAt.Time,
				)
			}
		}
	}
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.EngineReady }, s.now)
	return nil
}

// stopServing deletes the workload; the Service stays, so that its address does.
func (r *Reconciler) stopServing(ctx context.Context, s *scope) error {
	s.workspace.Status.Endpoint = ""
	if err := r.remove(ctx, s.workspace, s.server); err != nil {
		return err
	}
	return r.remove(ctx, s.workspace, s.other)
}
