// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
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

// A VM size and its quota family.
const (
	a100   = "Standard_NC24ads_A100_v4"
	family = "StandardNCADSA100v4Family"
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
	require.NoError(
		t, direct.Create(t.Context(), &nodeclassv1alpha1.KaitoNodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}}),
	)
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

func TestMachinesBecomeNodesAndAreDeleted(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute, because Karpenter drains for five seconds and polls every five")
	}
	f := newFixture(t)

	f.azure.SetUsages(azure.Usage{Name: family, Limit: 80})
	f.ask("ws1", "ws2", "ws3")
	for _, name := range []string{"ws1", "ws2", "ws3"} {
		f.eventually(
			name+" is Ready",
			func() bool { return f.condition(name, karpenterv1alpha5.ConditionReady).Status == corev1.ConditionTrue },
		)
	}
	f.azure.SetUsages(azure.Usage{Name: family, Current: 72, Limit: 80}) // as Azure counts them
	require.Len(t, f.azure.Names(), 1)
	shared := f.azure.Names()[0]
	assert.Equal(t, []string{"create " + shared + " 3"}, f.azure.Calls(), "one request for all three")

	m := f.machine("ws2")
	node := &corev1.Node{}
	require.NoError(t, f.client.Get(t.Context(), client.ObjectKey{Name: m.Status.NodeName}, node))
	assert.Equal(t, m.Status.ProviderID, node.Spec.ProviderID)
	for key, value := range map[string]string{
		"kaito.sh/workspace": "ws2", "kaito.sh/machine-type": "gpu", corev1.LabelInstanceTypeStable: a100, karpv1.CapacityTypeLabelKey: "on-demand",
		karpenterv1alpha5.LabelProvisionerName: "default", karpv1.NodeInitializedLabelKey: "true",
	} {
		assert.Equal(t, value, node.Labels[key], key)
	}
	assert.Contains(t, node.Spec.Taints, corev1.Taint{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule})
	assert.Equal(t, a100, m.Labels[corev1.LabelInstanceTypeStable])

	f.delete("ws2")
	f.eventually("ws2 is gone", func() bool { return f.machine("ws2") == nil })
	assert.True(
		t, apierrors.IsNotFound(f.client.Get(t.Context(), client.ObjectKey{Name: m.Status.NodeName}, &corev1.Node{})),
		"with its Node",
	)
	calls := f.azure.Calls()
	assert.True(t, strings.HasPrefix(calls[len(calls)-1], "deleteMachines "+shared), "by name: %v", calls)
	for _, name := range []string{"ws1", "ws3"} {
		assert.Equal(t, corev1.ConditionTrue, f.condition(name, karpenterv1alpha5.ConditionReady).Status, "%s stays", name)
	}

	f.ask("poor")
	f.eventually("the Machine has the numbers of the quota", func() bool {
		c := f.condition("poor", karpenterv1alpha5.ConditionMachineLaunched)
		return c.Status == corev1.ConditionFalse && c.Reason == azure.ReasonQuotaExceeded &&
			strings.Contains(c.Message, "has 8 of 80 left")
	})
	f.eventually("Karpenter deletes the NodeClaim", func() bool {
		return apierrors.IsNotFound(f.client.Get(t.Context(), client.ObjectKey{Name: "poor"}, &karpv1.NodeClaim{}))
	})
	assert.Equal(
		t, azure.ReasonQuotaExceeded, f.condition("poor", karpenterv1alpha5.ConditionMachineLaunched).Reason,
		"the reason remains",
	)
	assert.NotContains(t, fmt.Sprint(f.azure.Calls()), "resize", "Azure was not asked")

	f.delete("ws1", "ws3", "poor")
	f.eventually("the Machines and the pool are gone", func() bool {
		var list karpenterv1alpha5.MachineList
		return f.client.List(t.Context(), &list) == nil && len(list.Items) == 0 && len(f.azure.Names()) == 0
	})
	var nodes corev1.NodeList
	require.NoError(t, f.client.List(t.Context(), &nodes))
	assert.Empty(t, nodes.Items)
}

func TestClaimThatRequestsStorage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 seconds, because Karpenter drains")
	}
	f := newFixture(t)
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "kaito"}}
	claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}
	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{a100}},
		{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}},
	}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("300Gi")}
	require.NoError(t, f.client.Create(t.Context(), claim))
	f.eventually("the claim is Ready", func() bool {
		return f.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim) == nil &&
			claim.StatusConditions().IsTrue("Ready")
	})
	require.Len(t, f.azure.Names(), 1)
	assert.EqualValues(t, 300, f.azure.Spec(f.azure.Names()[0]).OSDiskSizeGiB, "its machine has the disk")
	assert.Equal(
		t, resource.MustParse("300Gi"), claim.Spec.Resources.Requests[corev1.ResourceStorage],
		"the stored claim is unchanged",
	)
	require.NoError(t, f.client.Delete(t.Context(), claim))
	f.eventually("the claim and the pool are gone", func() bool {
		return apierrors.IsNotFound(f.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim)) &&
			len(f.azure.Names()) == 0
	})
}
