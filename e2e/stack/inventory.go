// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// kinds are everything that a Workspace may bring into being in the cluster.
var kinds = []schema.GroupVersionKind{
	{Group: "kaito.sh", Version: "v1alpha1", Kind: "Workspace"},
	{Group: "karpenter.sh", Version: "v1alpha5", Kind: "Machine"},
	{Group: "karpenter.sh", Version: "v1", Kind: "NodeClaim"},
	{Version: "v1", Kind: "Node"},
	{Group: "tuning.kaito.sh", Version: "v1alpha1", Kind: "TuningJob"},
	{Group: "batch", Version: "v1", Kind: "Job"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	{Version: "v1", Kind: "Service"},
	{Version: "v1", Kind: "Pod"},
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "PersistentVolumeClaim"},
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"},
}

// Left lists what exists in the user's namespaces, among cluster-scoped kinds, and in the cloud; empty when nothing is
// left. It ignores objects that existed before the stack, and those that the cluster creates. In an existing cluster it
// lists only the namespace default and simulated Nodes, because the others belong to other users.
func (s *Stack) Left(ctx context.Context) ([]string, error) {
	var left []string
	err := s.inventory(ctx, func(u *unstructured.Unstructured) {
		if !s.native(u) {
			left = append(left, u.GetKind()+" "+client.ObjectKeyFromObject(u).String())
		}
	})
	if err != nil {
		return nil, err
	}
	for _, pool := range s.cloud.pools() {
		left = append(left, "agent pool "+pool)
	}
	slices.Sort(left)
	return left, nil
}

// inventory shows every object of the kinds.
func (s *Stack) inventory(ctx context.Context, show func(*unstructured.Unstructured)) error {
	for _, kind := range kinds {
		if err := s.each(ctx, kind, func(u *unstructured.Unstructured) error { show(u); return nil }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) rememberWhatIsThere(ctx context.Context) error {
	return s.inventory(ctx, func(u *unstructured.Unstructured) { s.before[u.GetUID()] = true })
}

// native says whether an object is there without any Workspace.
func (s *Stack) native(u *unstructured.Unstructured) bool {
	switch namespace := u.GetNamespace(); {
	case s.before[u.GetUID()]:
		return true
	case s.options.Existing != nil && namespace == "":
		return u.GetKind() == "Node" && !simulated(u)
	case s.options.Existing != nil && namespace != metav1.NamespaceDefault:
		return true
	case namespace == "kube-system" || namespace == "kube-public" || namespace == "kube-node-lease":
		return true
	}
	for _, o := range Operators {
		if u.GetNamespace() == o.Namespace() {
			return true
		}
	}
	return u.GetKind() == "ConfigMap" && u.GetName() == "kube-root-ca.crt"
}
