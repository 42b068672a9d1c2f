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
	"kaito.sh/workspace-operator/internal/observe"
	"kaito.sh/workspace-operator/internal/serving"
	"kaito.sh/workspace-operator/internal/tuning"
)

// Whether a pod would be admitted is asked by a create with dryRun=All, before a node is rented for it; an admission
// policy that is installed with the operator refuses its creates without dryRun. The policy knows the operator by the
// verb dryrun, which is in the same rule. See docs/adr/0012-dry-run-before-the-bill.md.
// +kubebuilder:rbac:groups="",resources=pods,verbs=create;dryrun

// preflight asks the API server whether it would admit what is to run on the nodes, once, before the first node of a
// Workspace is rented: a quota of the namespace, Pod Security and admission policies answer then, and not after the
// bill has started. Nothing is stored.
func (r *Reconciler) preflight(ctx context.Context, s *scope) error {
	if s.requested() || s.plan == nil {
		return nil
	}
	objects, err := r.toRun(s)
	var wrong *specError
	var invalid *embedded.InvalidError
	switch {
	case errors.As(err, &wrong), errors.As(err, &invalid):
		o := stuck(kaitov1alpha1.ReasonInvalidSpec, err.Error())
		s.refused = &o
		return nil
	case err != nil:
		return err
	}
	answers := make([]error, len(objects))
	var asked sync.WaitGroup
	for i, obj := range objects {
		asked.Go(func() { answers[i] = r.client.Create(ctx, obj, client.DryRunAll) })
	}
	asked.Wait()
	var failed error
	for i, answer := range answers {
		o, err := refusal(objects[i], answer)
		failed = errors.Join(failed, err)
		if o != nil && s.refused == nil {
			s.refused, s.recheck = o, r.recheckAfter(s)
		}
	}
	if s.refused != nil {
		return nil // a person must act, whatever else has failed
	}
	return failed
}

// toRun are the objects that would be created on the nodes: the first pod, which a quota and Pod Security speak about,
// and what makes it. The pods of a TuningJob are made by the tuning-operator from settings of its own: of them only the
// TuningJob is known here.
func (r *Reconciler) toRun(s *scope) ([]client.Object, error) {
	if s.stage == StageTune {
		if s.job != nil && metav1.IsControlledBy(s.job, s.workspace) {
			return nil, nil // it has been admitted
		}
		return []client.Object{tuning.Job(s.tuningInput())}, nil
	}
	in, err := r.workloadInput(s)
	if err != nil {
		return nil, err
	}
	var server client.Object
	var template corev1.PodTemplateSpec
	if in.Several() {
		set := serving.StatefulSet(in)
		server, template = set, set.Spec.Template
	} else {
		deployment := serving.Deployment(in)
		server, template = deployment, deployment.Spec.Template
	}
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	// A name that no other pod has, and a controller, as the real pod will have: policies may refuse pods without one.
	pod.Namespace, pod.Name, pod.GenerateName = s.workspace.Namespace, "", s.workspace.Name+"-"
	pod.OwnerReferences = []metav1.OwnerReference{controllerOf(server, s.workspace)}
	return []client.Object{pod, server}, nil
}

// controllerOf is who will control the pod: the StatefulSet, or a ReplicaSet of the Deployment. It does not exist yet,
// so its UID is the Workspace's.
func controllerOf(server client.Object, w *kaitov1alpha1.Workspace) metav1.OwnerReference {
	owner := metav1.OwnerReference{
		APIVersion: appsv1.SchemeGroupVersion.String(),
		Kind:       "ReplicaSet",
		Name:       server.GetName(),
		UID:        w.UID,
		Controller: ptr.To(true),
	}
	if _, set := server.(*appsv1.StatefulSet); set {
		owner.Kind = "StatefulSet"
	}
	return owner
}

// refusal says what an answer to a dry run means; nil and no error: the object may be created, or that is not known. An
// answer that says nothing about the object keeps no Workspace from its nodes: what is refused after all shows when the
// object is created.
func refusal(obj client.Object, answer error) (*outcome, error) {
	kind := wordFor(obj)
	say := func(reason, message string) (*outcome, error) {
		o := stuck(reason, message+". No node has been rented. The Workspace asks again after a while")
		return &o, nil
	}
	switch {
	case answer == nil, unasked(answer):
		return nil, nil
	case apierrors.IsForbidden(answer) && strings.Contains(answer.Error(), `serviceaccount "default" not found`):
		// The namespace is so new that its default service account is not there yet: the error has the pass repeated.
	case apierrors.IsAlreadyExists(answer):
		return say(
			kaitov1alpha1.ReasonNameTaken,
			fmt.Sprintf(
				"%s %s/%s exists already and is not this Workspace's: delete or rename it, or give the Workspace another name",
				kind, obj.GetNamespace(), obj.GetName(),
			),
		)
	case apierrors.IsInvalid(answer):
		return say(
			kaitov1alpha1.ReasonInvalidSpec,
			fmt.Sprintf("the API server refuses the %s: %v: correct what it names", kind, answer),
		)
	case apierrors.IsForbidden(answer):
		f := observe.Refused(fmt.Sprintf("the API server refuses the %s: %v", kind, answer))
		reason := f.Reason
		if reason == kaitov1alpha1.ReasonUnschedulable {
			reason = kaitov1alpha1.ReasonPodRefused
		}
		return say(reason, f.Message)
	}
	return nil, fmt.Errorf("asking whether the %s would be admitted: %w", kind, answer)
}

// unasked says whether the question has not reached what decides: the operator may not ask it (an older role), a
// webhook refuses dry runs, or the kind is not served.
func unasked(answer error) bool {
	return apierrors.IsForbidden(answer) && strings.Contains(answer.Error(), " cannot create resource ") ||
		meta.IsNoMatchError(
			answer,
		) || apierrors.IsBadRequest(answer) || apierrors.IsMethodNotSupported(answer) || apierrors.IsNotFound(answer)
}

func wordFor(obj client.Object) string {
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

// recheckGrowth is how many times its first interval the interval between two questions becomes at most.
const recheckGrowth = 10

// recheckAfter is when to ask again. No event tells that a policy has changed, and watching quotas would wake
// Workspaces with each pod of the namespace. The interval is half of the time for which the Workspace has been refused,
// within bounds.
func (r *Reconciler) recheckAfter(s *scope) time.Duration {
	least := r.options.RefusalRecheck
	c := conditions.Get(s.before, conditions.Stalled)
	if c == nil || c.Status != metav1.ConditionTrue {
		return least
	}
	return min(max(least, s.now.Sub(c.LastTransitionTime.Time)/2), recheckGrowth*least)
}
