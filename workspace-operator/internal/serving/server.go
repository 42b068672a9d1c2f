// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// A server on several nodes is a StatefulSet, a server on one node a Deployment.
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets,verbs=list;watch;create;patch;delete

// Server is the Deployment or the StatefulSet that serves.
type Server struct {
	Object client.Object
	// Answers: all its pods are of the last revision, and the pods that can be ready are ready.
	Answers bool
	// Failure is why no pods are created. Optional.
	Failure *Failure
}

func ofDeployment(d *appsv1.Deployment) *Server {
	s := d.Status
	return &Server{
		Object: d,
		Answers: s.ObservedGeneration >= d.Generation && s.UpdatedReplicas > 0 && s.AvailableReplicas > 0 &&
			s.UnavailableReplicas == 0,
		Failure: DeploymentFailure(d),
	}
}

// ofStatefulSet needs one ready pod only: of several nodes, rank 0 answers requests and no other rank does.
func ofStatefulSet(s *appsv1.StatefulSet) *Server {
	replicas := int32(1)
	if s.Spec.Replicas != nil {
		replicas = *s.Spec.Replicas
	}
	return &Server{
		Object: s,
		Answers: s.Status.ObservedGeneration >= s.Generation && s.Status.UpdatedReplicas == replicas &&
			s.Status.ReadyReplicas > 0,
	}
}

// Inputs returns the hash of what the server was rendered from; empty for nil.
func (s *Server) Inputs() string {
	if s == nil {
		return ""
	}
	return s.Object.GetAnnotations()[AnnotationInputs]
}

// IsSet returns whether the server is a StatefulSet.
func (s *Server) IsSet() bool {
	if s == nil {
		return false
	}
	_, set := s.Object.(*appsv1.StatefulSet)
	return set
}

// Found are the objects of a Workspace's server that exist.
type Found struct {
	// Server is the object that serves, or is about to. Other is one that it replaces. Both are optional.
	Server, Other *Server
	Service       *corev1.Service
}

// Find reads a Workspace's Service and both kinds of servers: when the number of nodes changes, one kind replaces the
// other.
func Find(ctx context.Context, reader client.Reader, w *kaitov1alpha1.Workspace) (Found, error) {
	found, err := findServers(ctx, reader, w)
	if err != nil {
		return found, err
	}
	found.Service, err = Get(ctx, reader, client.ObjectKeyFromObject(w), &corev1.Service{})
	return found, err
}

func findServers(ctx context.Context, reader client.Reader, w *kaitov1alpha1.Workspace) (Found, error) {
	var found Found
	key := client.ObjectKeyFromObject(w)
	deployment, err := Get(ctx, reader, key, &appsv1.Deployment{})
	if err != nil {
		return found, err
	}
	if deployment != nil {
		found.Server = ofDeployment(deployment)
	}
	setKey := client.ObjectKey{Namespace: w.Namespace, Name: SetName(w)}
	set, err := Get(ctx, reader, setKey, &appsv1.StatefulSet{})
	if err != nil {
		return found, err
	}
	if set != nil {
		found.Server, found.Other = ofStatefulSet(set), found.Server
	}
	if found.Other != nil || setKey == key {
		return found, nil
	}
	// Earlier releases gave a StatefulSet the Workspace's name even where the name is too long for the labels of pods.
	unable, err := Get(ctx, reader, key, &appsv1.StatefulSet{})
	if unable != nil {
		found.Other = ofStatefulSet(unable)
	}
	return found, err
}

// Prefer makes Server the object of the wanted kind, where both kinds exist.
func (f *Found) Prefer(set bool) {
	if f.Server != nil && f.Server.IsSet() != set {
		f.Server, f.Other = f.Other, f.Server
	}
}

// Get reads an object; nil where it does not exist.
func Get[T client.Object](ctx context.Context, reader client.Reader, key client.ObjectKey, obj T) (T, error) {
	var none T
	err := reader.Get(ctx, key, obj)
	if apierrors.IsNotFound(err) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("reading %T %s: %w", obj, key, err)
	}
	return obj, nil
}

// Remove deletes a server of the Workspace. It does nothing for nil and for another owner's object.
func Remove(ctx context.Context, c client.Writer, w *kaitov1alpha1.Workspace, s *Server) error {
	if s == nil || s.Object.GetDeletionTimestamp() != nil || !metav1.IsControlledBy(s.Object, w) {
		return nil
	}
	log.FromContext(ctx).Info("Deleting the workload", "name", s.Object.GetName())
	uid := s.Object.GetUID()
	return client.IgnoreNotFound(c.Delete(
		ctx, s.Object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground),
	))
}
