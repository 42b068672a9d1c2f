package stack

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
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
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"},
}

// Left lists what exists in the user's namespaces, among cluster-scoped kinds, and in the cloud; empty when nothing is
// left. What the cluster brings by itself is not counted.
func (s *Stack) Left(ctx context.Context) ([]string, error) {
	var left []string
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := s.Client.List(ctx, list); meta.IsNoMatchError(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("listing %s: %w", kind.Kind, err)
		}
		for i := range list.Items {
			if !s.native(&list.Items[i]) {
				left = append(left, kind.Kind+" "+client.ObjectKeyFromObject(&list.Items[i]).String())
			}
		}
	}
	for _, pool := range s.cloud.pools() {
		left = append(left, "agent pool "+pool)
	}
	slices.Sort(left)
	return left, nil
}

// native says whether an object is there without any Workspace.
func (s *Stack) native(u *unstructured.Unstructured) bool {
	switch u.GetNamespace() {
	case "":
		return false
	case "default":
		return (u.GetKind() == "Service" && u.GetName() == "kubernetes") || (u.GetKind() == "ConfigMap" && u.GetName() == "kube-root-ca.crt")
	case "kube-system", "kube-public", "kube-node-lease":
		return true
	}
	for _, o := range Operators {
		if u.GetNamespace() == o.Namespace() {
			return true
		}
	}
	return u.GetKind() == "ConfigMap" && u.GetName() == "kube-root-ca.crt"
}
