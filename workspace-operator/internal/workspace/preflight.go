// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/serving"
	"kaito.sh/workspace-operator/internal/tuning"
)

// A create with dryRun=All shows whether a pod would be admitted, before a node is rented for it. An admission policy
// that is installed with the operator refuses its other creates of pods; it identifies the operator by the verb dryrun,
// which the same rule grants. See docs/adr/0012-dry-run-before-the-bill.md.
// +kubebuilder:rbac:groups="",resources=pods,verbs=create;dryrun

// preflight asks the API server whether it would admit what is to run on the nodes, before the first node is rented.
type preflight struct {
	client client.Client
	inputs inputBuilder
	// recheck is how long a refused Workspace waits at first.
	recheck time.Duration
}

// check asks once for each Workspace: a quota of the namespace, Pod Security and admission policies answer before the
// bill starts. Nothing is stored. It sets s.refused where the API server refuses.
func (p preflight) check(ctx context.Context, s *scope) error {
	if s.requested() || s.plan == nil {
		return nil
	}
	objects, err := p.toRun(s)
	var wrong *serving.SpecError
	var invalid *embedded.InvalidError
	switch {
	case errors.As(err, &wrong), errors.As(err, &invalid):
		o := stalled(kaitov1alpha1.ReasonInvalidSpec, err.Error())
		s.refused = &o
		return nil
	case err != nil:
		return err
	}
	answers := make([]error, len(objects))
	var asked sync.WaitGroup
	for i, obj := range objects {
		asked.Go(func() { answers[i] = p.client.Create(ctx, obj, client.DryRunAll) })
	}
	asked.Wait()
	var failed error
	for i, answer := range answers {
		o, err := interpret(objects[i], answer)
		failed = errors.Join(failed, err)
		if o != nil && s.refused == nil {
			s.refused, s.recheck = o, recheckAfter(s, p.recheck)
		}
	}
	if s.refused != nil {
		return nil // a person must act, even if another request has failed
	}
	return failed
}

// toRun returns the objects that would be created on the nodes: the first pod, which a quota and Pod Security check,
// and the object that creates it. The tuning-operator creates the pods of a TuningJob from its own settings, so only
// the TuningJob is known here.
func (p preflight) toRun(s *scope) ([]client.Object, error) {
	if s.stage == stageTune {
		if s.job.object != nil && s.job.ours {
			return nil, nil // it has been admitted
		}
		return []client.Object{tuning.Job(tuningInput(s))}, nil
	}
	in, err := p.inputs.build(s)
	if err != nil {
		return nil, err
	}
	server := serving.Render(in)
	template, controller := podOf(server)
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	// A name that no other pod has, and a controller, as the real pod will have: policies may refuse pods without one. The
	// controller does not exist yet, so its UID is the Workspace's.
	pod.Namespace, pod.Name, pod.GenerateName = s.workspace.Namespace, "", s.workspace.Name+"-"
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: appsv1.SchemeGroupVersion.String(), Kind: controller, Name: server.GetName(), UID: s.workspace.UID,
		Controller: ptr.To(true),
	}}
	return []client.Object{pod, server}, nil
}

// podOf returns the pod template of a server and the kind that creates its pods.
func podOf(server client.Object) (corev1.PodTemplateSpec, string) {
	switch o := server.(type) {
	case *appsv1.StatefulSet:
		return o.Spec.Template, "StatefulSet"
	case *appsv1.Deployment:
		return o.Spec.Template, "ReplicaSet"
	}
	return corev1.PodTemplateSpec{}, ""
}

// interpret returns what an answer to a dry run means; nil and no error: the object may be created, or that is unknown.
// An answer that does not concern the object keeps no Workspace from its nodes: a refusal then shows when it is
// created.
func interpret(obj client.Object, answer error) (*outcome, error) {
	kind := kindOf(obj)
	say := func(reason, message string) (*outcome, error) {
		o := stalled(reason, message+". No node has been rented. The Workspace asks again after a while")
		return &o, nil
	}
	switch {
	case answer == nil, unanswered(answer):
		return nil, nil
	case apierrors.IsForbidden(answer) && strings.Contains(answer.Error(), `serviceaccount "default" not found`):
		// The namespace is new and its default service account does not exist yet: the error repeats the pass.
	case apierrors.IsAlreadyExists(answer):
		return say(kaitov1alpha1.ReasonNameTaken,
			(&patch.TakenError{Kind: kind, Key: client.ObjectKeyFromObject(obj)}).Error())
	case apierrors.IsInvalid(answer):
		return say(kaitov1alpha1.ReasonInvalidSpec,
			fmt.Sprintf("the API server refuses the %s: %v: correct what it names", kind, answer))
	case apierrors.IsForbidden(answer):
		f := serving.Refused(fmt.Sprintf("the API server refuses the %s: %v", kind, answer))
		reason := f.Reason
		if reason == kaitov1alpha1.ReasonUnschedulable {
			reason = kaitov1alpha1.ReasonPodRefused
		}
		return say(reason, f.Message)
	}
	return nil, fmt.Errorf("asking whether the %s would be admitted: %w", kind, answer)
}

// unanswered returns whether the request did not reach what decides: the operator may not make it (an older role), a
// webhook refuses dry runs, or the kind is not served.
func unanswered(answer error) bool {
	return apierrors.IsForbidden(answer) && strings.Contains(answer.Error(), " cannot create resource ") ||
		meta.IsNoMatchError(answer) || apierrors.IsBadRequest(answer) || apierrors.IsMethodNotSupported(answer) ||
		apierrors.IsNotFound(answer)
}

func kindOf(obj client.Object) string {
	switch obj.(type) {
	case *corev1.Pod:
		return "pod"
	case *appsv1.Deployment:
		return "Deployment"
	case *appsv1.StatefulSet:
		return "StatefulSet"
	}
	return "TuningJob"
}

// recheckGrowth is how many times its first value the time between two checks becomes at most.
const recheckGrowth = 10

// recheckAfter returns when to check again. No event reports a changed policy, and a watch of quotas would enqueue
// Workspaces with each pod of the namespace. The time is half of that for which the Workspace has been refused, within
// bounds.
func recheckAfter(s *scope, least time.Duration) time.Duration {
	c := conditions.Get(s.before, conditions.Stalled)
	if c == nil || c.Status != metav1.ConditionTrue {
		return least
	}
	return min(max(least, s.now.Sub(c.LastTransitionTime.Time)/2), recheckGrowth*least)
}
