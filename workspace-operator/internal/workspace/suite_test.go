// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	"sigs.k8s.io/yaml"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/workspace-operator/internal/scheme"
	"kaito.sh/workspace-operator/internal/watch"
	"kaito.sh/workspace-operator/internal/workspace"
)

// The operator runs in this process against a real API server, as its service account with the role that is installed:
// a verb that is missing there fails here. The tests play the provisioner and the tuning-operator through the API.
const (
	operatorNamespace = "workspace-system"
	operatorAccount   = "workspace-operator-controller-manager" // as config/default names it
	operatorUser      = "system:serviceaccount:" + operatorNamespace + ":" + operatorAccount
)

var shared struct {
	client  client.Client
	config  *rest.Config // the operator's
	cluster *cluster.Cluster
	audit   *audit.Log
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	if os.Getenv("WORKSPACE_TEST_LOG") != "" {
		ctrl.SetLogger(zap.New(zap.UseDevMode(true)))
	}
	os.Exit(cluster.Main(m, cluster.Options{
		ControllerManager: true, Scheduler: true, KWOK: true,
		CRDPaths: []string{
			"../../../shared/api/crds/kaito.sh_workspaces.yaml",
			"../../../shared/api/crds/kaito.sh_gpubudgets.yaml",
			"../../../shared/api/crds/karpenter.sh_machines.yaml",
			"../../../shared/api/crds/tuning.kaito.sh_tuningjobs.yaml",
		},
		CRDs: []*apiextensionsv1.CustomResourceDefinition{nodeClaimCRD()},
	}, func(c *cluster.Cluster) {
		if err := prepare(context.Background(), c); err != nil {
			panic(err)
		}
	}))
}

// nodeClaimCRD is Karpenter's own.
func nodeClaimCRD() *apiextensionsv1.CustomResourceDefinition {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(karpapis.NodeClaimCRD, crd); err != nil {
		panic(err)
	}
	return crd
}

func prepare(ctx context.Context, c *cluster.Cluster) error {
	shared.cluster, shared.audit = c, audit.Open(c.AuditLog())
	scheme, err := scheme.New()
	if err != nil {
		return err
	}
	if shared.client, err = client.New(c.Config(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	raw, err := os.ReadFile("../../config/rbac/role.yaml")
	if err != nil {
		return fmt.Errorf("%w: `make manifests` generates it", err)
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.Unmarshal(raw, role); err != nil {
		return err
	}
	policies, err := admission("secret_existence_policy.yaml", "pod_dry_run_policy.yaml")
	if err != nil {
		return err
	}
	for _, o := range append(policies, []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: operatorAccount, Namespace: operatorNamespace}},
		role,
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "operator"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: operatorAccount, Namespace: operatorNamespace}},
		},
	}...) {
		if err := shared.client.Create(ctx, o); err != nil {
			return err
		}
	}
	shared.config, err = c.ServiceAccountConfig(ctx, operatorNamespace, operatorAccount)
	return err
}

// admission reads the admission policies that are installed with the operator.
func admission(files ...string) ([]client.Object, error) {
	var out []client.Object
	for _, file := range files {
		raw, err := os.ReadFile("../../config/rbac/" + file)
		if err != nil {
			return nil, err
		}
		policy, binding := &admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{}
		documents := bytes.Split(raw, []byte("\n---\n"))
		if err := errors.Join(yaml.Unmarshal(documents[0], policy), yaml.Unmarshal(documents[1], binding)); err != nil {
			return nil, err
		}
		out = append(out, policy, binding)
	}
	return out, nil
}

// options of the tests: timeouts that a test can wait for.
func options() workspace.Options {
	o := workspace.DefaultOptions()
	o.Images.Gateway, o.Images.Runner = "example.com/gateway:1", "example.com/runner:1"
	o.SecretRecheck, o.RefusalRecheck = 200*time.Millisecond, 200*time.Millisecond
	return o
}

// operator is the operator in this process.
type operator struct {
	stop func()
}

// start runs the operator until the test ends, or until it is stopped.
func start(t *testing.T, options workspace.Options) *operator {
	t.Helper()
	scheme, err := scheme.New()
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(shared.config)
	config.QPS, config.Burst = 200, 400
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: watch.CacheOptions(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: ctrlConfig(),
	})
	if err == nil {
		var c *catalog.Catalog
		if c, err = catalog.Load(); err == nil {
			operator := workspace.Operator{
				Options: options, Catalog: c, Registry: prometheus.NewRegistry(), Clock: clock.RealClock{},
			}
			err = operator.SetupWithManager(ctx, mgr)
		}
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	o := &operator{}
	stopped := false
	o.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			var stacks bytes.Buffer
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1) // a buffer takes everything
			t.Errorf("the manager: %v; the goroutines that remain:\n%s", err, stacks.String())
		}
	}
	t.Cleanup(o.stop)
	return o
}
