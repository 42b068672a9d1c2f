// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
)

// audited is the JSON of audit, of what carries the test's mark in its name.
type audited struct {
	Orphans       int
	CloudCompared bool
	Findings      []struct{ State, Kind, Name, Workspace, Why string }
}

func audit(t *testing.T, args ...string) (result, audited) {
	t.Helper()
	r := online(t, "default", append([]string{"audit", "-o", "json"}, args...)...)
	var out audited
	require.NoError(t, json.Unmarshal([]byte(r.out), &out), r.out+r.errOut)
	return r, out
}

func (a audited) of(name string) string {
	for _, f := range a.Findings {
		if f.Name == name {
			return f.State + " " + f.Kind + " " + f.Why
		}
	}
	return ""
}

// claim is what the operator would make for a Workspace.
func claim(uid types.UID, ordinal int) *karpv1.NodeClaim {
	api := placement.NodeClaims{Class: karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}}
	return api.Build(placement.Request{Name: "gone", Namespace: "default", UID: uid, Ordinal: ordinal, InstanceType: "Standard_NC24ads_A100_v4", CapacityType: kaitov1alpha1.CapacityOnDemand, GPUs: 1}).(*karpv1.NodeClaim)
}

// The operator of these tests deletes claims whose Workspace is gone, so an orphan is one whose provisioner holds it.
func TestAuditFindsWhatBelongsToNobody(t *testing.T) {
	t.Parallel()
	w := ready(t, newNamespace(t), "owned")
	mine := eventuallyMachine(t, w)

	held := claim("0000-gone", 0)
	held.Finalizers = []string{"karpenter.sh/termination"}
	create(t, held)
	foreign := claim("", 1)
	foreign.Labels = nil
	create(t, foreign)
	stray := join(
		t,
		"stray-"+w.Namespace,
		map[string]string{
			kaitov1alpha1.LabelWorkspaceUID:       "0000-gone",
			kaitov1alpha1.LabelWorkspaceName:      "gone",
			kaitov1alpha1.LabelWorkspaceNamespace: "default",
			corev1.LabelInstanceTypeStable:        "Standard_NC24ads_A100_v4",
		},
		nil,
	)
	other := join(t, "other-"+w.Namespace, map[string]string{"team": "other"}, nil)
	t.Cleanup(func() { drop(t, held, foreign) })

	r, got := audit(t, "--grace", "0s")
	assert.Equal(t, 1, r.code)
	assert.GreaterOrEqual(t, got.Orphans, 2)
	assert.Contains(t, got.of(held.Name), "orphan NodeClaim Workspace default/gone with UID 0000-gone does not exist")
	assert.Equal(t, "orphan Node it has no Machine or NodeClaim", got.of(stray.Name))
	for _, name := range []string{foreign.Name, other.Name, mine.Name, "aks-" + mine.Name} {
		assert.Empty(t, got.of(name), "%s has an owner", name)
	}
	assert.False(t, got.CloudCompared)

	_, young := audit(t, "--grace", "1h")
	assert.Contains(t, young.of(stray.Name), "in progress", "what is young may have its other half yet to come")

	table := online(t, "default", "audit", "--grace", "0s")
	assert.Equal(t, 1, table.code)
	assert.Regexp(
		t,
		`(?m)^orphan +Node +stray-\S+ +default/gone +\S+ +3\.\d\d +it has no Machine or NodeClaim`,
		table.out,
	)
	assert.Contains(t, table.out, "agent pools were not compared")
}

func TestAuditComparesAgentPoolsWithClaims(t *testing.T) {
	t.Parallel()
	w := serving(newNamespace(t), "pooled")
	create(t, w)
	release(t, w)
	m := eventuallyMachine(t, w)
	before := m.DeepCopy()
	m.Status.ProviderID = "azure:///subscriptions/s/resourceGroups/mc_g/providers/Microsoft.Compute/virtualMachineScaleSets/aks-gaaaaaaaa0-12345678-vmss/virtualMachines/0"
	m.Status.NodeName = "aks-gaaaaaaaa0-12345678-vmss000000"
	require.NoError(t, shared.client.Status().Patch(t.Context(), m, client.MergeFrom(before)))

	file := filepath.Join(t.TempDir(), "pools.json")
	pools := func(text string) audited {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, got := audit(t, "--pools", file, "--grace", "0s")
		assert.True(t, got.CloudCompared)
		return got
	}
	const ours = `"tags":{"kaito.sh_managed-by":"gpu-provisioner","kaito.sh_pool-key":"aaaaaaaa"}`
	enough := pools(
		`[{"name":"gaaaaaaaa0","count":1,"provisioningState":"Succeeded","vmSize":"Standard_NC24ads_A100_v4",` + ours + `},{"name":"system","count":3,"provisioningState":"Succeeded"}]`,
	)
	assert.Empty(t, enough.of("gaaaaaaaa0"))
	assert.Empty(t, enough.of("system"), "not the provisioner's")
	assert.Empty(t, enough.of(m.Name))

	busy := pools(
		`[{"name":"gaaaaaaaa0","count":3,"provisioningState":"Scaling","vmSize":"Standard_NC24ads_A100_v4",` + ours + `}]`,
	)
	assert.Contains(t, busy.of("gaaaaaaaa0"), "in progress AgentPool 2 of its 3 machines", "an operation runs")

	lost := pools(`[{"name":"system","count":3,"provisioningState":"Succeeded"}]`)
	assert.Contains(t, lost.of(m.Name), "missing Machine its machine is in the agent pool gaaaaaaaa0")

	wrong := online(t, "default", "audit", "--pools", "../../go.mod")
	assert.Equal(t, 2, wrong.code)
	assert.Contains(t, wrong.errOut, "az aks nodepool list -o json")
}

func TestAuditRefusesToJudgeWhatItMayNotSee(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	config, err := shared.cluster.ServiceAccountKubeconfig(t.Context(), namespace, "default")
	require.NoError(t, err)
	r := start(t, nil, "audit", "--kubeconfig", config).wait()
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.errOut, "you may not list Workspaces of all namespaces")
	assert.Empty(t, r.out)
}

// drop lets claims go that hold a finalizer.
func drop(t *testing.T, claims ...*karpv1.NodeClaim) {
	for _, c := range claims {
		before := &karpv1.NodeClaim{}
		if err := shared.client.Get(context.Background(), client.ObjectKeyFromObject(c), before); err != nil {
			assert.NoError(t, client.IgnoreNotFound(err))
			continue
		}
		after := before.DeepCopy()
		after.Finalizers = nil
		assert.NoError(t, client.IgnoreNotFound(shared.client.Patch(context.Background(), after, client.MergeFrom(before))))
		assert.NoError(t, client.IgnoreNotFound(shared.client.Delete(context.Background(), after)))
	}
}
