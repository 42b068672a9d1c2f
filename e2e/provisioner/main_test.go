// Package provisioner_test runs the built gpu-provisioner as a process, with the rights that its RBAC file grants, against a real API
// server and a fake Azure that speaks the real protocol. The promises of package invariant are checked all along.
package provisioner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

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

const (
	root      = "../.."
	namespace = "gpu-provisioner-system"
	account   = "controller-manager"
)

// shared is what all tests run on; they run one after another.
var shared struct {
	cluster *cluster.Cluster
	client  client.WithWatch
	binary  string
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "gpu-provisioner-")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // a leftover in the temporary folder is no failure
	shared.binary = filepath.Join(folder, "gpu-provisioner")
	if out, err := exec.Command("go", "build", "-o", shared.binary, "kaito.sh/gpu-provisioner/cmd").CombinedOutput(); err != nil {
		return failed(fmt.Errorf("building the gpu-provisioner: %w\n%s", err, out))
	}
	code := cluster.Main(m, cluster.Options{
		ControllerManager: true, KWOK: true,
		CRDPaths: []string{
			filepath.Join(root, "shared/api/crds/karpenter.sh_machines.yaml"), filepath.Join(root, "shared/api/crds/kaito.sh_kaitonodeclasses.yaml"),
			filepath.Join(root, "gpu-provisioner/config/karpenter-crds/karpenter.sh_nodeclaims.yaml"), // and no NodePool
		},
	}, func(c *cluster.Cluster) {
		if err := prepare(c); err != nil {
			// Every test would fail for this reason: say it once.
			_ = failed(err)
			_ = c.Stop()
			os.Exit(1)
		}
	})
	return code
}

func failed(err error) int {
	_, _ = fmt.Fprintln(os.Stderr, err)
	return 1
}

// prepare gives the operator its namespace, its rights, and the default node class.
func prepare(c *cluster.Cluster) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, karpenterv1alpha5.AddToScheme, nodeclassv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("making a scheme: %w", err)
		}
	}
	// Karpenter adds its types to client-go's global scheme alone.
	v1 := schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
	scheme.AddKnownTypes(v1, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{})
	metav1.AddToGroupVersion(scheme, v1)
	direct, err := client.NewWithWatch(c.Config(), client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	shared.cluster, shared.client = c, direct
	ctx := context.Background()
	objects := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}},
		&nodeclassv1alpha1.KaitoNodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
	}
	rights, err := rights()
	if err != nil {
		return err
	}
	for _, o := range append(objects, rights...) {
		if err := direct.Create(ctx, o); err != nil {
			return fmt.Errorf("creating %T %s: %w", o, o.GetName(), err)
		}
	}
	return nil
}

// rights are the roles that are generated from the operator's markers, bound to its account.
func rights() ([]client.Object, error) {
	file, err := os.Open(filepath.Join(root, "gpu-provisioner/config/rbac/role.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading the operator's role (is it generated?): %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}}
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
			out = append(out, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: role.Rules}, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects})
		case "Role":
			meta := metav1.ObjectMeta{Namespace: namespace, Name: role.Name}
			out = append(out, &rbacv1.Role{ObjectMeta: meta, Rules: role.Rules}, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects})
		}
	}
}
