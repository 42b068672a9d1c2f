// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
	"kaito.sh/gpu-provisioner/internal/metric"
	"kaito.sh/gpu-provisioner/internal/pool"
	"kaito.sh/gpu-provisioner/internal/scheme"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// fixture is the composed operator with a real API server and an Azure in memory that creates Nodes.
type fixture struct {
	t      *testing.T
	client client.Client // not cached
	azure  *azuretest.Memory
}

func newFixture(t *testing.T) *fixture {
	karpenter, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/karpenter").Output()
	require.NoError(t, err)
	crds := filepath.Join(strings.TrimSpace(string(karpenter)), "pkg", "apis", "crds")
	c := cluster.ForTest(t, cluster.Options{CRDPaths: []string{
		"../../../shared/api/crds/karpenter.sh_machines.yaml", "../../../shared/api/crds/kaito.sh_kaitonodeclasses.yaml",
		filepath.Join(crds, "karpenter.sh_nodeclaims.yaml"), // the CRD of NodePools is not needed
	}})
	kinds, err := scheme.New()
	require.NoError(t, err)
	direct, err := client.New(c.Config(), client.Options{Scheme: kinds})
	require.NoError(t, err)
	// Before the operator starts, which creates it when there is none.
	require.NoError(
		t, direct.Create(t.Context(), &nodeclassv1alpha1.KaitoNodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}}),
	)
	ctrl.SetLogger(logr.Discard())
	f := &fixture{t: t, client: direct, azure: azuretest.New()}
	f.azure.Auto, f.azure.Booted, f.azure.Gone = true, f.joins, f.leaves

	mgr, err := ctrl.NewManager(c.Config(), ctrl.Options{Scheme: kinds, Metrics: metricsserver.Options{BindAddress: "0"},
		// Each test starts the controllers again.
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}})
	require.NoError(t, err)
	f.add(mgr)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	return f
}

func (f *fixture) add(mgr ctrl.Manager) {
	loaded, err := catalog.Load()
	require.NoError(f.t, err)
	o := DefaultOptions()
	o.MaxNodesPerPool, o.GPUReadyTimeout = 10, 3*time.Second
	o.Settings = pool.Settings{
		Gather: 2 * time.Second, Patience: time.Minute, Grace: 2 * time.Second, OperationTimeout: time.Minute,
		JoinTimeout: time.Minute, MaxPools: 100,
	}
	o.Intervals = pool.Intervals{Active: time.Second, Idle: 5 * time.Second}
	composed := Compose(Deps{
		Options: o, Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(),
		Namespace: metav1.NamespaceDefault, Azure: f.azure, Catalog: loaded, Events: mgr.GetEventRecorder("test"),
		KarpenterEvents: mgr.GetEventRecorderFor("karpenter"), //nolint:staticcheck // Karpenter needs the older API
		Metrics:         metric.Registerer(prometheus.NewRegistry()), Clock: clock.RealClock{},
	})
	require.NoError(f.t, composed.SetupWithManager(f.t.Context(), mgr))
}

func nodeName(pool string, m azure.Machine) string { return "aks-" + pool + "-" + m.Name }

// joins creates the machine's Node, Ready and with its GPU.
func (f *fixture) joins(pool string, m azure.Machine) {
	ctx := context.WithoutCancel(f.t.Context())
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName(pool, m)},
		Spec:       corev1.NodeSpec{ProviderID: m.ProviderID},
	}
	assert.NoError(f.t, f.client.Create(ctx, node))
	// No controller manager removes the taint that the API server adds to each new Node.
	assert.NoError(
		f.t,
		f.client.Patch(ctx, node, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"taints":null}}`))),
	)
	for {
		assert.NoError(f.t, f.client.Get(ctx, client.ObjectKeyFromObject(node), node))
		resources := corev1.ResourceList{
			"nvidia.com/gpu":                resource.MustParse("1"),
			corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
			corev1.ResourceCPU:              resource.MustParse("24"),
		}
		node.Status = corev1.NodeStatus{Capacity: resources, Allocatable: resources, Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()},
		}}
		if err := f.client.Status().Update(ctx, node); !apierrors.IsConflict(err) {
			assert.NoError(f.t, err)
			return
		}
	}
}

// leaves sets Ready to Unknown, since the machine's kubelet no longer reports.
func (f *fixture) leaves(pool string, m azure.Machine) {
	ctx := context.WithoutCancel(f.t.Context())
	patch := []byte(`{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`)
	err := f.client.Status().
		Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(pool, m)}}, client.RawPatch("application/strategic-merge-patch+json", patch))
	assert.NoError(f.t, client.IgnoreNotFound(err))
}

func (f *fixture) ask(names ...string) {
	for _, name := range names {
		in := func(key string, values ...string) corev1.NodeSelectorRequirement {
			return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
		}
		require.NoError(f.t, f.client.Create(f.t.Context(), &karpenterv1alpha5.Machine{
			ObjectMeta: metav1.ObjectMeta{
				Name:   name,
				Labels: map[string]string{"kaito.sh/workspace": name, karpenterv1alpha5.LabelProvisionerName: "default"},
			},
			Spec: karpenterv1alpha5.MachineSpec{
				Taints: []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}},
				Requirements: []corev1.NodeSelectorRequirement{
					in(
						corev1.LabelInstanceTypeStable, a100,
					),
					in(karpv1.CapacityTypeLabelKey, "on-demand"),
					in(corev1.LabelOSStable, "linux"),
					in(corev1.LabelArchStable, "amd64"),
					in("kaito.sh/machine-type", "gpu"),
				},
				Resources: karpenterv1alpha5.ResourceRequirements{
					Requests: corev1.ResourceList{
						"nvidia.com/gpu":                resource.MustParse("1"),
						corev1.ResourceEphemeralStorage: resource.MustParse("60Gi"),
					},
				},
			},
		}))
	}
}

func (f *fixture) machine(name string) *karpenterv1alpha5.Machine {
	m := &karpenterv1alpha5.Machine{}
	if err := f.client.Get(f.t.Context(), client.ObjectKey{Name: name}, m); err != nil {
		return nil
	}
	return m
}

func (f *fixture) condition(name, conditionType string) karpenterv1alpha5.Condition {
	if m := f.machine(name); m != nil {
		if c := m.GetCondition(conditionType); c != nil {
			return *c
		}
	}
	return karpenterv1alpha5.Condition{}
}

func (f *fixture) delete(names ...string) {
	for _, name := range names {
		require.NoError(
			f.t, f.client.Delete(f.t.Context(), &karpenterv1alpha5.Machine{ObjectMeta: metav1.ObjectMeta{Name: name}}),
		)
	}
}

func (f *fixture) eventually(what string, condition func() bool) {
	f.t.Helper()
	require.Eventually(f.t, condition, eventually.Long, eventually.Tick, what)
}
