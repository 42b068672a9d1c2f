// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"
	nodeclaimutils "sigs.k8s.io/karpenter/pkg/utils/nodeclaim"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/offering"
	"kaito.sh/gpu-provisioner/internal/pool"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

type engine struct {
	waits    map[types.UID]pool.Wait
	released []types.UID
	woken    int
	memory   *offering.Memory
	doubts   pool.Doubts
}

func (e *engine) Waiting(uid types.UID) (pool.Wait, bool) { w, ok := e.waits[uid]; return w, ok }
func (e *engine) Release(uid types.UID)                   { e.released = append(e.released, uid) }
func (e *engine) Wake()                                   { e.woken++ }
func (e *engine) Memory() *offering.Memory                { return e.memory }
func (e *engine) Doubts() pool.Doubts                     { return e.doubts }

type views struct {
	view        azure.View
	err         error
	invalidated int
}

func (v *views) View() (azure.View, error) { return v.view, v.err }
func (v *views) Invalidate(string)         { v.invalidated++ }

type catalog []offering.Size

func (c catalog) Sizes() []offering.Size { return c }
func (c catalog) Size(name string) (offering.Size, bool) {
	for _, s := range c {
		if s.Name == name {
			return s, true
		}
	}
	return offering.Size{}, false
}
func (c catalog) Price(string, string, string) float64 { return 3.67 }

type fixture struct {
	*Provider
	engine *engine
	views  *views
}

const (
	size    = "Standard_NC24ads_A100_v4"
	machine = "azure:///subscriptions/s/resourceGroups/mc/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/0"
)

func newFixture() *fixture {
	clk := testclock.NewFakeClock(now)
	f := &fixture{
		engine: &engine{waits: map[types.UID]pool.Wait{}, memory: offering.NewMemory(clk), doubts: pool.NewDoubts(now, nil)},
		views: &views{view: azure.View{
			Cluster: azure.Cluster{
				Location:          "eastus",
				PowerState:        "Running",
				ProvisioningState: "Succeeded",
			},
			At:       now,
			Oldest:   now,
			Complete: true,
			Pools: []azure.Pool{
				{
					Name:       "gaaaaaaaa0",
					State:      "Succeeded",
					Size:       size,
					Zones:      []string{"2"},
					Count:      1,
					Spot:       true,
					MachinesAt: now,
					Tags: map[string]string{
						azure.TagManagedBy: azure.ManagedByValue,
						azure.TagPoolKey:   "aaaaaaaa",
					},
					Machines: []azure.Machine{{Name: "m0", ProviderID: machine}},
				},
				{Name: "nodepool1", State: "Succeeded", Machines: []azure.Machine{{Name: "system", ProviderID: "azure:///system"}}},
			},
		}},
	}
	f.Provider = New(
		Config{
			Engine:  f.engine,
			Views:   f.views,
			Clock:   clk,
			MaxAge:  5 * time.Minute,
			Catalog: catalog{{Name: size, GPUs: 1, VCPUs: 24, MemoryGiB: 220, Family: "fam"}},
		},
	)
	return f
}

func claim(annotations map[string]string) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name:              "ws1",
			UID:               "u1",
			CreationTimestamp: metav1.NewTime(now.Add(-time.Minute)),
			Annotations:       annotations,
		},
	}
	c.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}
	c.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: "kaito.sh/machine-type", Operator: corev1.NodeSelectorOpIn, Values: []string{"gpu"}},
		{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{size}},
	}
	return c
}

func reasonOf(t *testing.T, err error) string {
	t.Helper()
	var e *corecloud.CreateError
	require.ErrorAs(t, err, &e)
	assert.False(t, corecloud.IsInsufficientCapacityError(err), "core must not delete the claim")
	assert.False(t, corecloud.IsNodeClassNotReadyError(err), "core must not delete the claim")
	return e.ConditionReason
}

func TestCoreKnowsOurClaimsByTheirNodeClass(t *testing.T) {
	f := newFixture()
	assert.True(t, nodeclaimutils.IsManaged(claim(nil), f))
	other := claim(nil)
	other.Spec.NodeClassRef.Kind = "AKSNodeClass"
	assert.False(t, nodeclaimutils.IsManaged(other, f))
}

func TestPendingCreateKeepsTheClaim(t *testing.T) {
	f := newFixture()
	_, err := f.Create(t.Context(), claim(nil))
	assert.Equal(t, karpenterv1alpha5.ReasonLaunching, reasonOf(t, err))
	f.engine.waits["u1"] = pool.Wait{Reason: karpenterv1alpha5.ReasonIdentityUnauthorized, Message: "no right"}
	_, err = f.Create(t.Context(), claim(nil))
	assert.Equal(t, karpenterv1alpha5.ReasonIdentityUnauthorized, reasonOf(t, err))
	assert.Equal(t, 2, f.engine.woken)
}

func TestReasonIsWrittenBeforeTheClaimIsDeleted(t *testing.T) {
	f := newFixture()
	c := claim(
		map[string]string{pool.AnnotationFailure: `{"reason":"QuotaExceeded","message":"needs 24","class":"capacity"}`},
	)
	_, err := f.Create(t.Context(), c)
	assert.Equal(t, "QuotaExceeded", reasonOf(t, err), "first the reason")
	c.StatusConditions().SetUnknownWithReason(karpv1.ConditionTypeLaunched, "QuotaExceeded", "needs 24")
	_, err = f.Create(t.Context(), c)
	assert.True(t, corecloud.IsInsufficientCapacityError(err), "then the end")
}

func TestFailureOfAnotherClassKeepsTheClaim(t *testing.T) {
	f := newFixture()
	c := claim(
		map[string]string{pool.AnnotationFailure: `{"reason":"InvalidRequest","message":"osDiskSizeGB","class":"terminal"}`},
	)
	c.StatusConditions().SetUnknownWithReason(karpv1.ConditionTypeLaunched, "InvalidRequest", "osDiskSizeGB")
	_, err := f.Create(t.Context(), c)
	assert.Equal(t, "InvalidRequest", reasonOf(t, err))
}

func TestLaunchedClaimGetsLabels(t *testing.T) {
	f := newFixture()
	for range 2 { // as after a crash
		out, err := f.Create(t.Context(), claim(map[string]string{pool.AnnotationProviderID: machine}))
		require.NoError(t, err)
		assert.Equal(t, machine, out.Status.ProviderID)
		assert.Equal(t, map[string]string{
			corev1.LabelInstanceTypeStable: size,
			corev1.LabelTopologyZone:       "eastus-2",
			corev1.LabelTopologyRegion:     "eastus",
			karpv1.CapacityTypeLabelKey:    "spot",
			corev1.LabelOSStable:           "linux",
			corev1.LabelArchStable:         "amd64",
			"kaito.sh/machine-type":        "gpu",
		}, out.Labels)
		gpus := out.Status.Capacity["nvidia.com/gpu"]
		assert.EqualValues(t, 1, gpus.Value())
	}
}

func TestDeleteReturnsNotFoundOnlyFromANewerView(t *testing.T) {
	f := newFixture()
	c := claim(nil)
	c.Status.ProviderID = machine
	c.DeletionTimestamp = &metav1.Time{Time: now.Add(-time.Second)}
	require.NoError(t, f.Delete(t.Context(), c), "the machine is there")
	assert.Equal(t, []types.UID{"u1"}, f.engine.released)

	f.views.view.Pools[0].Machines = nil
	c.DeletionTimestamp = &metav1.Time{Time: now.Add(time.Second)}
	require.NoError(t, f.Delete(t.Context(), c), "the view is older than the deletion")
	assert.Positive(t, f.views.invalidated)

	c.DeletionTimestamp = &metav1.Time{Time: now.Add(-time.Second)}
	assert.True(t, corecloud.IsNodeClaimNotFoundError(f.Delete(t.Context(), c)))
	f.views.err = errors.New("down")
	assert.NoError(t, f.Delete(t.Context(), c), "no answer is not an answer")
}

func TestListHoldsOurMachinesAlone(t *testing.T) {
	got, err := newFixture().List(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, machine, got[0].Status.ProviderID)
}

func TestListAndGetFailWhileTheViewIsUnreliable(t *testing.T) {
	for name, doubt := range map[string]func(*views){
		"the last read failed":    func(v *views) { v.err = errors.New("502") },
		"the cluster is stopped":  func(v *views) { v.view.Cluster.PowerState = "Stopped" },
		"the cluster is starting": func(v *views) { v.view.Cluster.ProvisioningState = "Starting" },
		"a pool was not read":     func(v *views) { v.view.Complete, v.view.Oldest = false, time.Time{} },
		"a view without a pass":   func(v *views) { v.view.At = now.Add(time.Second) },
		"the view is old":         func(v *views) { v.view.Oldest = now.Add(-6 * time.Minute) },
		"there is no view yet":    func(v *views) { v.view = azure.View{} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			doubt(f.views)
			_, err := f.List(t.Context())
			require.Error(t, err)
			_, err = f.Get(t.Context(), "azure:///unknown")
			require.Error(t, err)
			assert.False(t, corecloud.IsNodeClaimNotFoundError(err))
		})
	}
}

func TestFailedOfferingIsUnavailableToKarpenter(t *testing.T) {
	f := newFixture()
	f.engine.memory.Fail(
		offering.Offering{Size: size, CapacityType: offering.Spot},
		&azure.Error{Class: azure.ClassCapacity, Scope: azure.ScopeSize, RememberFor: time.Hour},
	)
	its, err := f.GetInstanceTypes(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, its, 1)
	available := map[string]bool{}
	for _, o := range its[0].Offerings {
		available[o.CapacityType()] = o.Available
	}
	assert.Equal(t, map[string]bool{"on-demand": true, "spot": false}, available)
}
