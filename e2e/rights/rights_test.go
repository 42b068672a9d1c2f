// SPDX-License-Identifier: Apache-2.0

package rights_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/rights"
	"kaito.sh/shared/test/audit"
)

const roles = `
- {kind: ClusterRole, metadata: {name: a}, rules: [{apiGroups: [""], resources: [pods, pods/eviction], verbs: [create, list, watch]}]}
- {kind: ClusterRoleBinding, metadata: {name: a}, roleRef: {kind: ClusterRole, name: a}}
- {kind: ClusterRole, metadata: {name: users}, rules: [{apiGroups: [kaito.sh], resources: [workspaces], verbs: [create]}]}
`

func TestWhatNoCallNeedsIsUnused(t *testing.T) {
	var texts []map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(roles), &texts))
	var objects []*unstructured.Unstructured
	for _, text := range texts {
		objects = append(objects, &unstructured.Unstructured{Object: text})
	}
	allowed, err := rights.Of(objects, "ClusterRole")
	require.NoError(t, err)
	assert.Len(t, allowed, 6, "a role without a binding grants nothing")

	folder := t.TempDir()
	require.NoError(t, rights.Save(folder, "an-operator", rights.Used([]audit.Request{
		{
			Verb:     "watch",
			Resource: "pods",
		},
		{Verb: "create", Resource: "pods", Subresource: "eviction"},
		{Verb: "get", Path: "/healthz"},
	})))
	require.NoError(t, rights.Save(folder, "an-operator", rights.Used([]audit.Request{
		{
			Verb:     "patch",
			Resource: "pods",
			Code:     201,
		},
		{Verb: "watch", Resource: "pods", Subresource: "eviction", Denied: true},
	})))
	used, stacks, err := rights.Load(folder, "an-operator")
	require.NoError(t, err)
	assert.Equal(t, 2, stacks)
	unused, stale := rights.Unused("an-operator", allowed, used)
	assert.Equal(
		t, []rights.Right{{Resource: "pods/eviction", Verb: "list"}, {Resource: "pods/eviction", Verb: "watch"}}, unused,
	)
	assert.Empty(t, stale)
	assert.Equal(t, 1, used[rights.Right{Resource: "pods", Verb: "watch"}], "denied elsewhere")
	require.NoError(t, rights.Save(folder, "an-operator", rights.Used([]audit.Request{{Verb: "watch", Resource: "pods"}})))
	used, _, err = rights.Load(folder, "an-operator")
	require.NoError(t, err)
	assert.Equal(
		t,
		[]rights.Right{
			{Resource: "pods", Verb: "create"},
			{Resource: "pods", Verb: "patch"},
			{Resource: "pods/eviction", Verb: "create"},
		},
		rights.Rare(used, 1),
	)
}

func TestEveryRightThatIsKeptHasItsReason(t *testing.T) {
	for _, k := range rights.Kept {
		assert.NotEmpty(t, k.Verbs, "%+v", k)
		assert.Greater(t, len(k.Why), 20, "%+v", k)
	}
}
