// SPDX-License-Identifier: Apache-2.0

package installed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/test/cluster"
)

// Namespace and Account are those of the operator.
const (
	Namespace = "gpu-provisioner-system"
	Account   = "controller-manager"
)

// CRDPaths returns the CRDs to install. NodePool is not needed.
func CRDPaths(root string) []string {
	return []string{
		filepath.Join(root, "shared/api/crds/karpenter.sh_machines.yaml"),
		filepath.Join(root, "shared/api/crds/kaito.sh_kaitonodeclasses.yaml"),
		filepath.Join(root, "gpu-provisioner/config/karpenter-crds/karpenter.sh_nodeclaims.yaml"),
	}
}

// Into installs everything, and returns a client with all rights and without a cache.
func Into(ctx context.Context, c *cluster.Cluster, root string) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, karpenterv1alpha5.AddToScheme, nodeclassv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("making a scheme: %w", err)
		}
	}
	// Karpenter adds its types to client-go's global scheme only.
	v1 := schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
	scheme.AddKnownTypes(v1, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{})
	metav1.AddToGroupVersion(scheme, v1)
	direct, err := client.NewWithWatch(c.Config(), client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	objects := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: Account}},
		&nodeclassv1alpha1.KaitoNodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
	}
	rights, err := rights(root)
	if err != nil {
		return nil, err
	}
	for _, o := range append(objects, rights...) {
		if err := direct.Create(ctx, o); err != nil {
			return nil, fmt.Errorf("creating %T %s: %w", o, o.GetName(), err)
		}
	}
	return direct, nil
}

// rights returns the roles that are generated from the operator's markers, bound to its account.
func rights(root string) ([]client.Object, error) {
	file, err := os.Open(filepath.Join(root, "gpu-provisioner/config/rbac/role.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading the operator's role (is it generated?): %w", err)
	}
	defer func() { _ = file.Close() }() // only for reading
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: Namespace, Name: Account}}
	decoder := utilyaml.NewYAMLOrJSONDecoder(file, 4096)
	var out []client.Object
	for {
		var role struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
			Rules             []rbacv1.PolicyRule `json:"rules"`
		}
		if err := decoder.Decode(&role); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the operator's role: %w", err)
		}
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: role.Kind, Name: role.Name}
		switch role.Kind {
		case "ClusterRole":
			meta := metav1.ObjectMeta{Name: role.Name}
			out = append(
				out, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: role.Rules},
				&rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects},
			)
		case "Role":
			meta := metav1.ObjectMeta{Namespace: Namespace, Name: role.Name}
			out = append(
				out, &rbacv1.Role{ObjectMeta: meta, Rules: role.Rules},
				&rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects},
			)
		}
	}
}
