// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// Existing is a cluster that is there before the stack and after it.
type Existing struct {
	// Kubeconfig is the file whose current context names it; empty means kubectl's own choice.
	Kubeconfig string
	// NodeIP is this machine's address as the cluster's API server reaches it; empty means that it is found out.
	NodeIP string
}

// LabelInstalled is on everything that a stack makes in an existing cluster, so that nothing else is ever removed.
const LabelInstalled = "stack.kaito.sh/installed"

// drainLimit bounds how long the operators get to take down what they manage, uninstallLimit how long the API server
// gets to remove what was installed.
const drainLimit, uninstallLimit = time.Minute, time.Minute

// InstalledError says that the cluster has something of the same name that the stack did not make.
type InstalledError struct{ Objects []string }

func (e *InstalledError) Error() string {
	return fmt.Sprintf(
		"the cluster already has %s, which this would overwrite and then remove: use a cluster without these operators and without Karpenter",
		strings.Join(e.Objects, ", "),
	)
}

func (s *Stack) attach(ctx context.Context) (err error) {
	s.say("starting KWOK beside the cluster that is there")
	// KWOK outlives an interruption: what was made in the cluster is taken down with its help.
	s.Cluster, err = cluster.Attach(context.WithoutCancel(ctx), cluster.AttachOptions{
		Kubeconfig: s.options.Existing.Kubeconfig, NodeIP: s.options.Existing.NodeIP,
		Dir: s.clusterDir(), KWOKConfig: s.kwokConfig(),
	})
	return err
}

// claim makes sure that the objects are the stack's own to make and to remove, and marks them. In a cluster that goes
// with the stack everything is.
func (s *Stack) claim(ctx context.Context, m manifests) error {
	if s.options.Existing == nil {
		return nil
	}
	var taken []string
	for _, u := range m.objects {
		there := &metav1.PartialObjectMetadata{}
		there.SetGroupVersionKind(u.GroupVersionKind())
		err := s.Client.Get(ctx, client.ObjectKeyFromObject(u), there)
		switch {
		case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		case err != nil:
			return fmt.Errorf("looking for %s %s: %w", u.GetKind(), u.GetName(), err)
		case there.Labels[LabelInstalled] == "":
			taken = append(taken, u.GetKind()+" "+u.GetName())
		}
		labels := u.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[LabelInstalled] = "true"
		u.SetLabels(labels)
	}
	if len(taken) > 0 {
		return &InstalledError{Objects: taken}
	}
	s.claimed = append(s.claimed, m.objects...)
	return nil
}

// drain deletes what a user has made of the stack's kinds while the operators still run, and waits for what hangs on
// it.
func (s *Stack) drain(ctx context.Context) error {
	if s.options.Existing == nil || s.Client == nil || len(s.claimed) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	s.say("removing what was made")
	for _, kind := range ownKinds {
		if err := s.each(ctx, kind, func(u *unstructured.Unstructured) error { return s.Client.Delete(ctx, u) }); err != nil {
			return err
		}
	}
	var left []string
	err := wait.PollUntilContextCancel(ctx, eventually.Look, true, func(ctx context.Context) (done bool, err error) {
		left, err = s.Left(ctx)
		return len(left) == 0, err
	})
	if err != nil {
		s.say("still there, and removed without its operator: %s", strings.Join(left, ", "))
	}
	return nil
}

// uninstall removes the objects that claim marked, after the operators stopped. It removes the finalizers of objects
// that wait for an operator, because their cloud is deleted with the stack.
func (s *Stack) uninstall(ctx context.Context) error {
	if s.options.Existing == nil || s.Client == nil || len(s.claimed) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, uninstallLimit)
	defer cancel()
	s.say("uninstalling")
	for _, kind := range ownKinds {
		if err := s.each(ctx, kind, func(u *unstructured.Unstructured) error { return s.release(ctx, u) }); err != nil {
			return err
		}
	}
	if err := s.removeNodes(ctx); err != nil {
		return err
	}
	secrets := []client.DeleteAllOfOption{
		client.InNamespace(metav1.NamespaceDefault),
		client.MatchingLabels{LabelInstalled: "true"},
	}
	errs := []error{s.Client.DeleteAllOf(ctx, &corev1.Secret{}, secrets...)}
	for _, u := range slices.Backward(s.claimed) {
		if u.GetKind() == "CustomResourceDefinition" { // the policy protects CRDs with the label
			unmark := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+labelUninstall+`":null}}}`))
			errs = append(errs, client.IgnoreNotFound(s.Client.Patch(ctx, u.DeepCopy(), unmark)))
		}
		err := s.Client.Delete(ctx, u, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil && !meta.IsNoMatchError(err) {
			errs = append(errs, fmt.Errorf("removing %s %s: %w", u.GetKind(), u.GetName(), err))
		}
	}
	return errors.Join(append(errs, s.untilUninstalled(ctx))...)
}

func (s *Stack) untilUninstalled(ctx context.Context) error {
	return wait.PollUntilContextCancel(ctx, eventually.StoryTick, true, func(ctx context.Context) (bool, error) {
		for _, u := range s.claimed {
			err := s.Client.Get(ctx, client.ObjectKeyFromObject(u), u.DeepCopy())
			if !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
				return false, err
			}
		}
		return true, nil
	})
}

// ownKinds are those of the stack's CRDs, what depends on another before the other.
var ownKinds = []schema.GroupVersionKind{
	{Group: "kaito.sh", Version: "v1alpha1", Kind: "Workspace"},
	{Group: "tuning.kaito.sh", Version: "v1alpha1", Kind: "TuningJob"},
	{Group: "karpenter.sh", Version: "v1alpha5", Kind: "Machine"},
	{Group: "karpenter.sh", Version: "v1", Kind: "NodeClaim"},
	{Group: "karpenter.sh", Version: "v1", Kind: "NodePool"},
	{Group: "kaito.sh", Version: "v1alpha1", Kind: "KaitoNodeClass"},
}

// each does it to every object of the kind; what is gone already is well.
func (s *Stack) each(
	ctx context.Context, kind schema.GroupVersionKind, do func(*unstructured.Unstructured) error,
) error {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind)
	if err := s.Client.List(ctx, list); meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("listing %s: %w", kind.Kind, err)
	}
	for i := range list.Items {
		if err := do(&list.Items[i]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("removing %s %s: %w", kind.Kind, list.Items[i].GetName(), err)
		}
	}
	return nil
}

// release deletes an object and takes its finalizers away.
func (s *Stack) release(ctx context.Context, u *unstructured.Unstructured) error {
	if err := s.Client.Delete(ctx, u); err != nil {
		return err
	}
	if len(u.GetFinalizers()) == 0 {
		return nil
	}
	return s.Client.Patch(
		ctx,
		u,
		client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)),
	)
}

func (s *Stack) removeNodes(ctx context.Context) error {
	return s.each(ctx, corev1.SchemeGroupVersion.WithKind("Node"), func(u *unstructured.Unstructured) error {
		if !simulated(u) {
			return nil
		}
		return s.release(ctx, u)
	})
}

// simulated says whether KWOK keeps the Node.
func simulated(node client.Object) bool {
	return node.GetAnnotations()[cluster.SimulatedNodeAnnotation] == cluster.SimulatedNodeValue
}
