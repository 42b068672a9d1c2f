// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/scheme"
	"kaito.sh/tuning-operator/internal/tuningjob"
)

// The operator runs in this process against a real API server, with its service account and its installed role: a verb
// that the role lacks fails a test.
const (
	operatorNamespace = "tuning-system"
	operatorAccount   = "controller-manager"
	gpuNode           = "gpu-node"
)

var shared struct {
	client  client.Client
	cluster *cluster.Cluster
	audit   *audit.Log
	metrics *prometheus.Registry
}

func TestMain(m *testing.M) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	started := false
	code := cluster.Main(m, cluster.Options{
		ControllerManager: true, Scheduler: true, KWOK: true,
		CRDPaths: []string{"../../../shared/api/crds/tuning.kaito.sh_tuningjobs.yaml"},
	}, func(c *cluster.Cluster) {
		if err := prepare(ctx, c); err != nil {
			panic(err)
		}
		config, err := c.ServiceAccountConfig(ctx, operatorNamespace, operatorAccount)
		if err != nil {
			panic(err)
		}
		mgr, err := newManager(ctx, config)
		if err != nil {
			panic(err)
		}
		started = true
		go func() { done <- mgr.Start(ctx) }()
	})
	cancel()
	if started {
		if err := <-done; err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "the manager:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func kinds() *runtime.Scheme {
	s, err := scheme.New()
	if err != nil {
		panic(err)
	}
	return s
}

func newManager(ctx context.Context, config *rest.Config) (ctrl.Manager, error) {
	ctrl.SetLogger(logr.Discard())
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 200, 400
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: kinds(), Cache: tuningjob.CacheOptions(), Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return nil, err
	}
	shared.metrics = prometheus.NewRegistry()
	metrics, err := tuningjob.NewMetrics(shared.metrics)
	if err != nil {
		return nil, err
	}
	models, err := catalog.Load()
	if err != nil {
		return nil, err
	}
	r, err := tuningjob.New(tuningjob.Config{
		Client:  mgr.GetClient(),
		Live:    mgr.GetAPIReader(),
		Catalog: models,
		Events:  mgr.GetEventRecorder("tuning-operator"),
		Clock:   clock.RealClock{},
		Metrics: metrics,
		Options: tuningjob.Options{
			Job: job.Options{
				RunnerImage: "example.com/runner:1", TrainerImage: "example.com/trainer:1", CheckpointSize: "1Gi",
			},
			ProgressInterval: time.Hour,
		},
	})
	if err != nil {
		return nil, err
	}
	return mgr, r.SetupWithManager(ctx, mgr)
}

func prepare(ctx context.Context, c *cluster.Cluster) error {
	shared.cluster, shared.audit = c, audit.Open(c.AuditLog())
	var err error
	if shared.client, err = client.New(c.Config(), client.Options{Scheme: kinds()}); err != nil {
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
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: operatorAccount, Namespace: operatorNamespace}},
		role,
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "operator"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: operatorAccount, Namespace: operatorNamespace}},
		},
	} {
		if err := shared.client.Create(ctx, o); err != nil {
			return err
		}
	}
	return addNode(ctx)
}

func addNode(ctx context.Context) error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        gpuNode,
			Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue},
		},
	}
	if err := shared.client.Create(ctx, node); err != nil {
		return err
	}
	before := node.DeepCopy()
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.224.0.4"}}
	node.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("96"), corev1.ResourceMemory: resource.MustParse("900Gi"),
		corev1.ResourcePods: resource.MustParse("110"), "nvidia.com/gpu": resource.MustParse("64"),
	}
	node.Status.Allocatable = node.Status.Capacity
	return shared.client.Status().Patch(ctx, node, client.MergeFrom(before))
}
