// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// nodeAPIs returns the two APIs for nodes.
func nodeAPIs() []placement.API { return []placement.API{placement.Machines{}, placement.NodeClaims{}} }

// snapshot is a Workspace with all objects that belong to it, at one time.
type snapshot struct {
	workspace *kaitov1alpha1.Workspace
	claims    []placement.Claim
	nodes     map[string]*corev1.Node
	// servers are the Deployment and the StatefulSet.
	servers []server
	service *corev1.Service
	tuning  *tuningv1alpha1.TuningJob
	jobs    []batchv1.Job
	pods    []corev1.Pod
	// hidden are the kinds that this user may not read.
	hidden []string
}

// server is a Deployment or a StatefulSet that serves the model.
type server struct {
	kind, name     string
	ready, desired int32
}

// look reads the objects of a Workspace. It records the kinds that the user may not read.
func (c *cluster) look(ctx context.Context, w *kaitov1alpha1.Workspace) (*snapshot, error) {
	s := &snapshot{workspace: w, nodes: map[string]*corev1.Node{}}
	for _, step := range []func(context.Context, *snapshot) error{
		c.lookAtClaims, c.lookAtNodes, c.lookAtServers, c.lookAtTuning, c.lookAtPods,
	} {
		if err := step(ctx, s); err != nil {
			return nil, err
		}
	}
	slices.Sort(s.hidden)
	s.hidden = slices.Compact(s.hidden)
	return s, nil
}

// seen reports whether an object was found. A missing object or kind is not an error, and a forbidden kind is recorded
// as hidden. It returns all other errors.
func (s *snapshot) seen(kind string, err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case absent(err), apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		s.hidden = append(s.hidden, kind)
		return false, nil
	}
	return false, fmt.Errorf("reading %s: %w", kind, err)
}

func ownedBy(w *kaitov1alpha1.Workspace) client.MatchingLabels {
	return client.MatchingLabels{kaitov1alpha1.LabelWorkspaceUID: string(w.UID)}
}

func (c *cluster) lookAtClaims(ctx context.Context, s *snapshot) error {
	for _, api := range nodeAPIs() {
		list := api.List()
		found, err := s.seen(api.Kind()+"s", c.client.List(ctx, list, ownedBy(s.workspace)))
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		for _, item := range api.Items(list) {
			s.claims = append(s.claims, api.Read(item))
		}
	}
	slices.SortFunc(s.claims, func(a, b placement.Claim) int {
		if a.Ordinal != b.Ordinal {
			return a.Ordinal - b.Ordinal
		}
		return a.Attempt - b.Attempt
	})
	return nil
}

// lookAtNodes reads the nodes by name, one by one, because a cluster can have thousands.
func (c *cluster) lookAtNodes(ctx context.Context, s *snapshot) error {
	names := slices.Clone(s.workspace.Status.WorkerNodes)
	for _, claim := range s.claims {
		names = append(names, claim.NodeName)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == "" {
			continue
		}
		n := &corev1.Node{}
		found, err := s.seen("Nodes", c.client.Get(ctx, client.ObjectKey{Name: name}, n))
		if err != nil {
			return err
		}
		if found {
			s.nodes[name] = n
		}
	}
	return nil
}

func (c *cluster) lookAtServers(ctx context.Context, s *snapshot) error {
	key := client.ObjectKeyFromObject(s.workspace)
	deployment, set, service := &appsv1.Deployment{}, &appsv1.StatefulSet{}, &corev1.Service{}
	found, err := s.seen("Deployments", c.client.Get(ctx, key, deployment))
	if err != nil {
		return err
	}
	if found && ours(s.workspace, deployment) {
		s.servers = append(
			s.servers, server{"Deployment", deployment.Name, deployment.Status.ReadyReplicas, desired(deployment.Spec.Replicas)},
		)
	}
	setKey := client.ObjectKey{Namespace: key.Namespace, Name: serving.SetName(s.workspace)}
	if found, err = s.seen("StatefulSets", c.client.Get(ctx, setKey, set)); err != nil {
		return err
	}
	if found && ours(s.workspace, set) {
		s.servers = append(s.servers, server{"StatefulSet", set.Name, set.Status.ReadyReplicas, desired(set.Spec.Replicas)})
	}
	if found, err = s.seen("Services", c.client.Get(ctx, key, service)); err != nil {
		return err
	}
	if found && ours(s.workspace, service) {
		s.service = service
	}
	return nil
}

func desired(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// ours reports whether the Workspace controls the object.
func ours(w *kaitov1alpha1.Workspace, o client.Object) bool { return metav1.IsControlledBy(o, w) }

func (c *cluster) lookAtTuning(ctx context.Context, s *snapshot) error {
	if s.workspace.Tuning == nil {
		return nil
	}
	job := &tuningv1alpha1.TuningJob{}
	found, err := s.seen("TuningJobs", c.client.Get(ctx, client.ObjectKeyFromObject(s.workspace), job))
	if err != nil || !found || !ours(s.workspace, job) {
		return err
	}
	s.tuning = job
	list := &batchv1.JobList{}
	found, err = s.seen("Jobs", c.client.List(ctx, list, client.InNamespace(s.workspace.Namespace)))
	if err != nil || !found {
		return err
	}
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], job) {
			s.jobs = append(s.jobs, list.Items[i])
		}
	}
	return nil
}

// lookAtPods reads the serving pods by their labels, and the tuning pods by the selector of their Job.
func (c *cluster) lookAtPods(ctx context.Context, s *snapshot) error {
	w := s.workspace
	list := &corev1.PodList{}
	found, err := s.seen("Pods", c.client.List(ctx, list, client.InNamespace(w.Namespace), servingPods(w)))
	if err != nil {
		return err
	}
	if found {
		s.pods = list.Items
	}
	for i := range s.jobs {
		selector := s.jobs[i].Spec.Selector
		if selector == nil {
			continue
		}
		list := &corev1.PodList{}
		if found, err = s.seen(
			"Pods", c.client.List(ctx, list, client.InNamespace(w.Namespace), client.MatchingLabels(selector.MatchLabels)),
		); err != nil {
			return err
		}
		if found {
			s.pods = append(s.pods, list.Items...)
		}
	}
	slices.SortFunc(s.pods, func(a, b corev1.Pod) int {
		if n := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
	return nil
}

func servingPods(w *kaitov1alpha1.Workspace) client.MatchingLabels {
	return client.MatchingLabels{
		kaitov1alpha1.LabelWorkspaceName: w.Name,
		serving.LabelComponent:           serving.ComponentInference,
	}
}
