// SPDX-License-Identifier: Apache-2.0

package controller

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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
	"kaito.sh/gpu-provisioner/internal/cloudprovider"
	"kaito.sh/gpu-provisioner/internal/controller/machine"
	"kaito.sh/gpu-provisioner/internal/offering"
	"kaito.sh/gpu-provisioner/internal/pool"
	"kaito.sh/gpu-provisioner/internal/quota"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

const a100 = "Standard_NC24ads_A100_v4"

// operator is all the controllers, core's among them, over a real API server and an Azure in memory that makes Nodes.
type operator struct {
	t      *testing.T
	client client.Client // not cached
	azure  *azuretest.Memory
}

func startOperator(t *testing.T) *operator {
	karpenter, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/karpenter").Output()
	require.NoError(t, err)
	crds := filepath.Join(strings.TrimSpace(string(karpenter)), "pkg", "apis", "crds")
	c := cluster.ForTest(t, cluster.Options{CRDPaths: []string{
		"../../../shared/api/crds/karpenter.sh_machines.yaml", "../../../shared/api/crds/kaito.sh_kaitonodeclasses.yaml",
		filepath.Join(crds, "karpenter.sh_nodeclaims.yaml"), // and no NodePool: nothing here needs its CRD
	}})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, karpenterv1alpha5.AddToScheme, nodeclassv1alpha1.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	v1 := schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
	scheme.AddKnownTypes(v1, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{}, &karpv1.NodePool{}, &karpv1.NodePoolList{})
	metav1.AddToGroupVersion(scheme, v1)
	direct, err := client.New(c.Config(), client.Options{Scheme: scheme})
	require.NoError(t, err)
	ctrl.SetLogger(logr.Discard())
	o := &operator{t: t, client: direct, azure: azuretest.New()}
	o.azure.Auto, o.azure.Booted, o.azure.Gone = true, o.joins, o.leaves

	mgr, err := ctrl.NewManager(c.Config(), ctrl.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		// Every test starts the operator anew.
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}})
	require.NoError(t, err)
	o.add(mgr)
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
	return o
}

func (o *operator) add(mgr ctrl.Manager) {
	t, clk := o.t, clock.RealClock{}
	require.NoError(t, Index(t.Context(), mgr))
	cache := azure.NewCache(o.azure, clk)
	records := func(name string) pool.Records {
		return pool.Records{
			Reader:    mgr.GetAPIReader(),
			Writer:    mgr.GetClient(),
			Namespace: metav1.NamespaceDefault,
			Name:      name,
		}
	}
	recorder := mgr.GetEventRecorderFor("test") //nolint:staticcheck // as core's
	engine := pool.NewEngine(pool.Options{
		Client:     mgr.GetClient(),
		Operations: records(pool.OperationsConfigMap),
		Offerings:  records(pool.OfferingsConfigMap),
		Azure:      o.azure,
		Cache:      cache,
		Preflight:  quota.NewPreflight(o.azure, clk),
		Recorder:   recorder,
		Clock:      clk,
		Metrics:    pool.NewMetrics(prometheus.NewRegistry()),
		Settings: pool.Settings{
			Gather: 2 * time.Second, Patience: time.Minute, Grace: 2 * time.Second, OperationTimeout: time.Minute,
			JoinTimeout: time.Minute, MaxPools: 100,
		},
		Intervals:  pool.Intervals{Active: time.Second, Idle: 5 * time.Second},
		MaxPerPool: 10,
		Manages:    func(c *karpv1.NodeClaim) bool { return c.Spec.NodeClassRef.Kind == "KaitoNodeClass" },
		ClassOf:    pool.Classes{Client: mgr.GetClient()}.Of,
		SizeOf:     func(string) (pool.Size, bool) { return pool.Size{VCPUs: 24, Family: "famA"}, true },
	})
	provider := cloudprovider.New(cloudprovider.Options{
		Engine: engine, Views: cache, Catalog: sizes{}, Clock: clk, MaxAge: time.Minute,
	})
	require.NoError(t, AddCore(t.Context(), mgr, provider, clk))
	require.NoError(t, (&Pools{Engine: engine, Provider: provider}).SetupWithManager(mgr))
	require.NoError(t, (&NodeClasses{Client: mgr.GetClient()}).SetupWithManager(mgr))
	require.NoError(
		t,
		(&Accelerators{Client: mgr.GetClient(), Provider: provider, Clock: clk, Recorder: recorder, Timeout: 3 * time.Second}).SetupWithManager(
			mgr, prometheus.NewRegistry(),
		),
	)
	require.NoError(
		t,
		(&machine.Reconciler{Client: mgr.GetClient(), Clock: clk, Recorder: recorder, NodeClass: "default"}).SetupWithManager(
			mgr,
		),
	)
}

type sizes struct{}

func (sizes) Sizes() []offering.Size { return nil }
func (sizes) Size(name string) (offering.Size, bool) {
	return offering.Size{Name: name, GPUs: 1, VCPUs: 24, MemoryGiB: 220, Family: "famA"}, true
}
func (sizes) Price(string, string, string) float64 { return 0 }

func nodeName(pool string, m azure.Machine) string { return "aks-" + pool + "-" + m.Name }

// joins makes the machine's Node, Ready and with its GPU.
func (o *operator) joins(pool string, m azure.Machine) {
	ctx := context.WithoutCancel(o.t.Context())
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName(pool, m)},
		Spec:       corev1.NodeSpec{ProviderID: m.ProviderID},
	}
	assert.NoError(o.t, o.client.Create(ctx, node))
	// No controller manager runs that would take away the taint with which the API server admits every node.
	assert.NoError(
		o.t,
		o.client.Patch(ctx, node, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"taints":null}}`))),
	)
	for {
		assert.NoError(o.t, o.client.Get(ctx, client.ObjectKeyFromObject(node), node))
		resources := corev1.ResourceList{
			"nvidia.com/gpu":                resource.MustParse("1"),
			corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
			corev1.ResourceCPU:              resource.MustParse("24"),
		}
		node.Status = corev1.NodeStatus{Capacity: resources, Allocatable: resources, Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()},
		}}
		if err := o.client.Status().Update(ctx, node); !apierrors.IsConflict(err) {
			assert.NoError(o.t, err)
			return
		}
	}
}

// leaves: the kubelet of a machine that is gone no longer says that it is Ready.
func (o *operator) leaves(pool string, m azure.Machine) {
	ctx := context.WithoutCancel(o.t.Context())
	patch := []byte(`{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`)
	err := o.client.Status().
		Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(pool, m)}}, client.RawPatch("application/strategic-merge-patch+json", patch))
	assert.NoError(o.t, client.IgnoreNotFound(err))
}

func (o *operator) ask(names ...string) {
	for _, name := range names {
		in := func(key string, values ...string) corev1.NodeSelectorRequirement {
			return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
		}
		require.NoError(o.t, o.client.Create(o.t.Context(), &karpenterv1alpha5.Machine{
			ObjectMeta: metav1.ObjectMeta{
				Name:   name,
				Labels: map[string]string{"kaito.sh/workspace": name, karpenterv1alpha5.LabelProvisionerName: "default"},
			},
			Spec: karpenterv1alpha5.MachineSpec{
				Taints: []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}},
				Requirements: []corev1.NodeSelectorRequirement{
					in(corev1.LabelInstanceTypeStable, a100),
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

func (o *operator) machine(name string) *karpenterv1alpha5.Machine {
	m := &karpenterv1alpha5.Machine{}
	if err := o.client.Get(o.t.Context(), client.ObjectKey{Name: name}, m); err != nil {
		return nil
	}
	return m
}

func (o *operator) condition(name, conditionType string) karpenterv1alpha5.Condition {
	if m := o.machine(name); m != nil {
		if c := m.GetCondition(conditionType); c != nil {
			return *c
		}
	}
	return karpenterv1alpha5.Condition{}
}

func (o *operator) delete(names ...string) {
	for _, name := range names {
		require.NoError(
			o.t, o.client.Delete(o.t.Context(), &karpenterv1alpha5.Machine{ObjectMeta: metav1.ObjectMeta{Name: name}}),
		)
	}
}

func (o *operator) eventually(what string, condition func() bool) {
	o.t.Helper()
	require.Eventually(o.t, condition, eventually.Long, eventually.Tick, what)
}

func TestMachinesBecomeNodesOfOnePoolAndGoAway(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute: core drains for five seconds and asks every five")
	}
	o := startOperator(t)

	o.azure.SetUsages(azure.Usage{Name: "famA", Limit: 80})
	o.ask("ws1", "ws2", "ws3")
	for _, name := range []string{"ws1", "ws2", "ws3"} {
		o.eventually(
			name+" is Ready",
			func() bool { return o.condition(name, karpenterv1alpha5.ConditionReady).Status == corev1.ConditionTrue },
		)
	}
	o.azure.SetUsages(azure.Usage{Name: "famA", Current: 72, Limit: 80}) // as Azure would count them
	require.Len(t, o.azure.Names(), 1)
	shared := o.azure.Names()[0]
	assert.Equal(t, []string{"create " + shared + " 3"}, o.azure.Calls(), "one request for all three")

	m := o.machine("ws2")
	node := &corev1.Node{}
	require.NoError(t, o.client.Get(t.Context(), client.ObjectKey{Name: m.Status.NodeName}, node))
	assert.Equal(t, m.Status.ProviderID, node.Spec.ProviderID)
	for key, value := range map[string]string{
		"kaito.sh/workspace": "ws2", "kaito.sh/machine-type": "gpu", corev1.LabelInstanceTypeStable: a100, karpv1.CapacityTypeLabelKey: "on-demand",
		karpenterv1alpha5.LabelProvisionerName: "default", karpv1.NodeInitializedLabelKey: "true",
	} {
		assert.Equal(t, value, node.Labels[key], key)
	}
	assert.Contains(t, node.Spec.Taints, corev1.Taint{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule})
	assert.Equal(t, a100, m.Labels[corev1.LabelInstanceTypeStable])

	o.delete("ws2")
	o.eventually("ws2 is gone", func() bool { return o.machine("ws2") == nil })
	assert.True(
		t, apierrors.IsNotFound(o.client.Get(t.Context(), client.ObjectKey{Name: m.Status.NodeName}, &corev1.Node{})),
		"with its Node",
	)
	calls := o.azure.Calls()
	assert.True(t, strings.HasPrefix(calls[len(calls)-1], "deleteMachines "+shared), "by name: %v", calls)
	for _, name := range []string{"ws1", "ws3"} {
		assert.Equal(t, corev1.ConditionTrue, o.condition(name, karpenterv1alpha5.ConditionReady).Status, "%s stays", name)
	}

	o.ask("poor")
	o.eventually("the quota's numbers stand on the Machine", func() bool {
		c := o.condition("poor", karpenterv1alpha5.ConditionMachineLaunched)
		return c.Status == corev1.ConditionFalse && c.Reason == azure.ReasonQuotaExceeded &&
			strings.Contains(c.Message, "has 8 of 80 left")
	})
	o.eventually("core deletes the NodeClaim", func() bool {
		return apierrors.IsNotFound(o.client.Get(t.Context(), client.ObjectKey{Name: "poor"}, &karpv1.NodeClaim{}))
	})
	assert.Equal(
		t, azure.ReasonQuotaExceeded, o.condition("poor", karpenterv1alpha5.ConditionMachineLaunched).Reason,
		"the evidence survives",
	)
	assert.NotContains(t, fmt.Sprint(o.azure.Calls()), "resize", "Azure was not asked")

	o.delete("ws1", "ws3", "poor")
	o.eventually("all are gone, and the pool", func() bool {
		var list karpenterv1alpha5.MachineList
		return o.client.List(t.Context(), &list) == nil && len(list.Items) == 0 && len(o.azure.Names()) == 0
	})
	var nodes corev1.NodeList
	require.NoError(t, o.client.List(t.Context(), &nodes))
	assert.Empty(t, nodes.Items)
}

func TestAClaimThatAsksForStorageAsKAITODoesIsHonoured(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute, core's drain among it")
	}
	o := startOperator(t)
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "kaito"}}
	claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}
	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{a100}},
		{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}},
	}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("300Gi")}
	require.NoError(t, o.client.Create(t.Context(), claim))
	o.eventually("the claim is Ready", func() bool {
		return o.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim) == nil &&
			claim.StatusConditions().IsTrue("Ready")
	})
	require.Len(t, o.azure.Names(), 1)
	assert.EqualValues(t, 300, o.azure.Spec(o.azure.Names()[0]).OSDiskSizeGiB, "its machine has the disk")
	assert.Equal(
		t, resource.MustParse("300Gi"), claim.Spec.Resources.Requests[corev1.ResourceStorage],
		"and the claim is as it was written",
	)
	require.NoError(t, o.client.Delete(t.Context(), claim))
	o.eventually("all is gone", func() bool {
		return apierrors.IsNotFound(o.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim)) &&
			len(o.azure.Names()) == 0
	})
}
