package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/node"
	"kaito.sh/workspace-operator/internal/observe"
	"kaito.sh/workspace-operator/internal/workload"
)

// The workload that serves is applied, and deleted when nothing is to be served.
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// The Service stands in front of it.
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch
// Pods tell why a workload does not serve.
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch

// AnnotationAPIKeys on a Workspace names the Secret whose key "keys" holds one API key a line; without it none is asked for.
const AnnotationAPIKeys = "kaito.sh/api-keys"

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
	if s.plan != nil && s.resource.ok() && s.blocked == nil {
		if err := r.applyWorkload(ctx, s); err != nil {
			return s.unapplied(err)
		}
	}
	if s.deployment == nil {
		s.inference = s.unserved()
		return flow.Continue(), nil
	}
	return r.readWorkload(ctx, s)
}

func (s *scope) unserved() outcome {
	if s.blocked != nil {
		return *s.blocked
	}
	return pending
}

// unapplied types the errors that a person must act on; all others are tried again.
func (s *scope) unapplied(err error) (flow.Result, error) {
	var taken *patch.TakenError
	var refused *specError
	switch {
	case errors.As(err, &taken):
		s.inference = stuck(kaitov1alpha1.ReasonNameTaken, taken.Error())
		return flow.Stop(), nil
	case errors.As(err, &refused):
		s.inference = stuck(kaitov1alpha1.ReasonInvalidSpec, refused.message)
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
	service := workload.Service(in)
	if _, err := patch.Apply(ctx, r.client, kaitov1alpha1.FieldManager, service, object(s.service)); err != nil {
		return err
	}
	want := workload.Deployment(in)
	if s.deployment != nil && s.deployment.Annotations[workload.AnnotationInputs] == in.Hash {
		return nil
	}
	log.FromContext(ctx).Info("Applying the workload", "inputs", in.Hash)
	if _, err := patch.Apply(ctx, r.client, kaitov1alpha1.FieldManager, want, object(s.deployment)); err != nil {
		return err
	}
	s.deployment, err = get(ctx, r.client, s.workspace, &appsv1.Deployment{})
	return err
}

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
	for kind, obj := range map[string]client.Object{"Deployment": object(s.deployment), "Service": object(s.service)} {
		if obj != nil && !metav1.IsControlledBy(obj, s.workspace) {
			return &patch.TakenError{Kind: kind, Key: client.ObjectKeyFromObject(obj), Cause: errors.New("its controller is not this Workspace")}
		}
	}
	return nil
}

func (r *Reconciler) workloadInput(s *scope) (workload.Input, error) {
	w := s.workspace
	in := workload.Input{
		Workspace: w, Labels: node.OwnerLabels(w), Owner: ownerOf(w),
		Hash:         s.inputs(&s.plan.Status),
		Engine:       s.plan.Engine,
		Images:       r.options.Images,
		ImageVolumes: r.imageVolumes(s.nodes),
		APIKeySecret: w.Annotations[AnnotationAPIKeys],
		Placement:    workload.Placement{Nodes: s.plan.Status.Nodes},
	}
	if len(s.own) == 0 {
		in.Placement.Selector = s.nodeLabels()
	} else {
		for _, n := range s.nodes {
			in.Placement.Names = append(in.Placement.Names, hostname(n))
		}
	}
	if w.Inference != nil {
		in.Template = w.Inference.Template
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

// adapters are the tuned one and those of the inference section.
func adapters(w *kaitov1alpha1.Workspace, in *workload.Input) error {
	if t := w.Tuning; t != nil && w.Status.Tuning != nil {
		tuned := workload.Adapter{Name: w.Name}
		switch {
		case w.Status.Tuning.Image != "":
			tuned.Image = w.Status.Tuning.Image
			if t.Output != nil && t.Output.ImagePushSecret != "" {
				tuned.PullSecrets = []string{t.Output.ImagePushSecret}
			}
		case t.Output != nil && t.Output.VolumeSource != nil:
			tuned.Volume = t.Output.VolumeSource
		}
		in.Tuned = tuned.Name
		in.Adapters = append(in.Adapters, tuned)
	}
	if w.Inference == nil {
		return nil
	}
	for i, a := range w.Inference.Adapters {
		adapter, err := adapter(i, a)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(in.Adapters, func(o workload.Adapter) bool { return o.Name == adapter.Name }) || adapter.Name == w.Name && in.Tuned == "" {
			return &specError{fmt.Sprintf("inference.adapters[%d].source.name is %q, which is the name of another model that is served: rename it", i, adapter.Name)}
		}
		in.Adapters = append(in.Adapters, adapter)
	}
	return nil
}

func adapter(i int, a kaitov1alpha1.AdapterSpec) (workload.Adapter, error) {
	field := fmt.Sprintf("inference.adapters[%d]", i)
	switch {
	case a.Source == nil:
		return workload.Adapter{}, &specError{field + ".source is needed: give it a name and an image or a volumeSource"}
	case a.Source.Image == "" && a.Source.VolumeSource == nil:
		return workload.Adapter{}, &specError{field + ".source has neither image nor volumeSource: adapters come as one of the two"}
	case a.Strength != nil && !isOne(*a.Strength):
		return workload.Adapter{}, &specError{fmt.Sprintf("%s.strength is %s: the engine applies adapters at full strength only; remove the field, or scale lora_alpha in the adapter", field, *a.Strength)}
	}
	name := a.Source.Name
	if name == "" {
		name = fmt.Sprintf("adapter-%d", i)
	}
	return workload.Adapter{Name: name, Image: a.Source.Image, PullSecrets: a.Source.ImagePullSecrets, Volume: a.Source.VolumeSource}, nil
}

func isOne(strength string) bool {
	if strength == "" || strength[0] != '1' {
		return false
	}
	for _, c := range strength[1:] {
		if c != '.' && c != '0' {
			return false
		}
	}
	return true
}

// readWorkload says whether the workload answers, and why not.
func (r *Reconciler) readWorkload(ctx context.Context, s *scope) (flow.Result, error) {
	d := s.deployment
	s.workspace.Status.Endpoint = workload.Endpoint(s.workspace)
	if d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas > 0 && d.Status.AvailableReplicas > 0 && d.Status.UnavailableReplicas == 0 {
		s.inference = yes(kaitov1alpha1.ReasonReady, "the engine answers at "+workload.Endpoint(s.workspace))
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
		if f := observe.Deployment(d); f != nil {
			failure = f
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
	if err := r.client.List(ctx, list, client.InNamespace(s.workspace.Namespace), client.MatchingLabels{
		kaitov1alpha1.LabelWorkspaceUID: string(s.workspace.UID), workload.LabelComponent: workload.ComponentInference,
	}); err != nil {
		return nil, fmt.Errorf("listing the workload's pods: %w", err)
	}
	return list.Items, nil
}

// noteTimes takes over when the images were there and the weights were fetched, once, together with the time at which the engine answered.
func (r *Reconciler) noteTimes(ctx context.Context, s *scope) error {
	pods, err := r.pods(ctx, s)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		for _, c := range pod.Status.ContainerStatuses {
			if c.Name == workload.ContainerEngine && c.State.Running != nil {
				s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.ImagePulled }, c.State.Running.StartedAt.Time)
			}
		}
		for _, c := range pod.Status.InitContainerStatuses {
			if c.State.Terminated != nil {
				s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.WeightsReady }, c.State.Terminated.FinishedAt.Time)
			}
		}
	}
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.EngineReady }, s.now)
	return nil
}

// stopServing deletes the workload; the Service stays, so that its address does.
func (r *Reconciler) stopServing(ctx context.Context, s *scope) error {
	s.workspace.Status.Endpoint = ""
	if s.deployment == nil || s.deployment.DeletionTimestamp != nil || !metav1.IsControlledBy(s.deployment, s.workspace) {
		return nil
	}
	log.FromContext(ctx).Info("Deleting the workload")
	if err := r.client.Delete(ctx, s.deployment, client.Preconditions{UID: &s.deployment.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		return client.IgnoreNotFound(err)
	}
	return nil
}
