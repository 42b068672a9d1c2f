// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/observe"
	"kaito.sh/workspace-operator/internal/serving"
)

// A server of several nodes is a StatefulSet, and one of one node a Deployment.
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets,verbs=list;watch;create;patch;delete

// server is the Deployment or the StatefulSet that serves.
type server struct {
	object client.Object
	// answers: all its pods are of the last revision, and those that can be ready are.
	answers bool
	// failure is why it makes no pods.
	failure *observe.Failure
}

func ofDeployment(d *appsv1.Deployment) *server {
	s := d.Status
	return &server{
		object: d,
		answers: s.ObservedGeneration >= d.Generation && s.UpdatedReplicas > 0 && s.AvailableReplicas > 0 &&
			s.UnavailableReplicas == 0,
		failure: observe.Deployment(d),
	}
}

// ofStatefulSet: of several nodes only rank 0 answers requests, so one ready pod is what there can be.
func ofStatefulSet(s *appsv1.StatefulSet) *server {
	replicas := int32(1)
	if s.Spec.Replicas != nil {
		replicas = *s.Spec.Replicas
	}
	return &server{
		object: s,
		answers: s.Status.ObservedGeneration >= s.Generation && s.Status.UpdatedReplicas == replicas &&
			s.Status.ReadyReplicas > 0,
	}
}

// inputs is the hash that the server was rendered from.
func (s *server) inputs() string {
	if s == nil {
		return ""
	}
	return s.object.GetAnnotations()[serving.AnnotationInputs]
}

// several says whether the plan that counts serves from more than one node.
func (s *scope) several() bool {
	p := s.planStatus()
	template := s.workspace.Inference != nil && s.workspace.Inference.Template != nil
	return p != nil && p.Nodes > 1 && !template
}

// findServer reads both kinds: when the number of nodes changes, one replaces the other.
func (r *Reconciler) findServer(ctx context.Context, s *scope) error {
	deployment, err := get(ctx, r.client, s.workspace, &appsv1.Deployment{})
	if err != nil {
		return err
	}
	set, err := get(ctx, r.client, named(s.workspace, serving.SetName(s.workspace)), &appsv1.StatefulSet{})
	if err != nil {
		return err
	}
	if deployment != nil {
		s.server = ofDeployment(deployment)
	}
	if set != nil {
		s.server, s.other = ofStatefulSet(set), s.server
	}
	if s.other != nil || serving.SetName(s.workspace) == s.workspace.Name {
		return nil
	}
	// Earlier builds gave a StatefulSet of a long name that name, under which it can make no pods.
	unable, err := get(ctx, r.client, s.workspace, &appsv1.StatefulSet{})
	if unable != nil {
		s.other = ofStatefulSet(unable)
	}
	return err
}

// named is w under another name: what get reads.
func named(w *kaitov1alpha1.Workspace, name string) *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}}
}

// pick makes server the one of the kind that the plan asks for.
func (s *scope) pick() {
	if is, want := s.server.isSet(), s.several(); s.server != nil && is != want {
		s.server, s.other = s.other, s.server
	}
}

func (s *server) isSet() bool {
	if s == nil {
		return false
	}
	_, set := s.object.(*appsv1.StatefulSet)
	return set
}

// remove deletes a server that is this Workspace's.
func (r *Reconciler) remove(ctx context.Context, w *kaitov1alpha1.Workspace, s *server) error {
	if s == nil || s.object.GetDeletionTimestamp() != nil || !metav1.IsControlledBy(s.object, w) {
		return nil
	}
	log.FromContext(ctx).Info("Deleting the workload", "name", s.object.GetName())
	uid := s.object.GetUID()
	return client.IgnoreNotFound(
		r.client.Delete(
			ctx, s.object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground),
		),
	)
}
