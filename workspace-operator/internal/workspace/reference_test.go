// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/workspace-operator/internal/workspace"
)

func configMap(namespace, name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Data: data}
}

func TestInvalidWorkspaceStallsAndContinuesWhenFixed(t *testing.T) {
	start(t, options())
	for _, test := range []struct {
		name   string
		edit   func(*kaitov1alpha1.Workspace)
		before func(namespace string) []client.Object
		reason string
		says   []string
		mend   func(t *testing.T, w *kaitov1alpha1.Workspace)
	}{
		{
			name:   "a preset that the catalogue does not have, repaired by another Workspace of the name",
			edit:   func(w *kaitov1alpha1.Workspace) { w.Inference.Preset.Name = "phi-4-mini-instruckt" },
			reason: kaitov1alpha1.ReasonUnknownPreset, says: []string{"phi-4-mini-instruckt", "did you mean"},
			mend: func(t *testing.T, w *kaitov1alpha1.Workspace) {
				require.NoError(t, shared.client.Delete(t.Context(), w))
				require.Eventually(t, func() bool {
					return client.IgnoreNotFound(shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), &kaitov1alpha1.Workspace{})) == nil &&
						shared.client.Create(context.Background(), inferenceWorkspace(w.Namespace, w.Name)) == nil
				}, eventually.Long, eventually.Tick)
			},
		},
		{
			name: "a size that the model does not fit",
			edit: func(w *kaitov1alpha1.Workspace) {
				w.Inference.Preset.Name, w.Resource.InstanceType = "llama-3.3-70b-instruct", "Standard_NC6s_v3"
			},
			reason: kaitov1alpha1.ReasonInfeasible, says: []string{"Standard_NC6s_v3", "Remedy"},
			mend: func(t *testing.T, w *kaitov1alpha1.Workspace) {
				patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Resource.InstanceType = "Standard_ND96isr_H100_v5" })
			},
		},
		{
			name:   "a size that the catalogue does not have",
			edit:   func(w *kaitov1alpha1.Workspace) { w.Resource.InstanceType = "Standard_NC24ads_A100_v5" },
			reason: kaitov1alpha1.ReasonUnknownInstanceType, says: []string{"Standard_NC24ads_A100_v5", "Standard_NC24ads_A100_v4"},
			mend: func(t *testing.T, w *kaitov1alpha1.Workspace) {
				patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Resource.InstanceType = "Standard_NC24ads_A100_v4" })
			},
		},
		{
			name: "a Secret that is missing",
			edit: func(w *kaitov1alpha1.Workspace) {
				w.Inference.Preset.PresetOptions = &kaitov1alpha1.PresetOptions{ModelAccessSecret: "token"}
			},
			reason: kaitov1alpha1.ReasonSecretNotFound, says: []string{"inference.preset.presetOptions.modelAccessSecret", "token", "create it"},
			mend: func(t *testing.T, w *kaitov1alpha1.Workspace) {
				create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "token", Namespace: w.Namespace}})
			},
		},
		{
			name:   "a ConfigMap that is missing",
			edit:   func(w *kaitov1alpha1.Workspace) { w.Inference.Config = "config" },
			reason: kaitov1alpha1.ReasonConfigMapNotFound, says: []string{"inference.config", "config", "inference_config.yaml"},
			mend: func(t *testing.T, w *kaitov1alpha1.Workspace) {
				create(t, configMap(w.Namespace, "config", map[string]string{"inference_config.yaml": "vllm: {max-model-len: 4096}"}))
			},
		},
		{
			name: "a ConfigMap without the key",
			edit: func(w *kaitov1alpha1.Workspace) { w.Inference.Config = "config" },
			before: func(namespace string) []client.Object {
				return []client.Object{configMap(namespace, "config", map[string]string{"config.yaml": "vllm: {}"})}
			},
			reason: kaitov1alpha1.ReasonConfigMapNotFound, says: []string{"no key inference_config.yaml"},
			mend: func(t *testing.T, w *kaitov1alpha1.Workspace) {
				require.NoError(t, shared.client.Update(t.Context(), configMap(w.Namespace, "config", map[string]string{"inference_config.yaml": ""})))
			},
		},
		{
			name: "a key of the configuration that the plan decides",
			edit: func(w *kaitov1alpha1.Workspace) { w.Inference.Config = "config" },
			before: func(namespace string) []client.Object {
				return []client.Object{configMap(namespace, "config", map[string]string{"inference_config.yaml": "vllm: {tensor-parallel-size: 8}"})}
			},
			reason: kaitov1alpha1.ReasonInvalidConfig, says: []string{"vllm.tensor-parallel-size", "remove the key"},
			mend: func(t *testing.T, w *kaitov1alpha1.Workspace) {
				require.NoError(t, shared.client.Update(t.Context(), configMap(w.Namespace, "config", map[string]string{"inference_config.yaml": "vllm: {max-num-seqs: 8}"})))
			},
		},
		{
			name:   "a name that no Service can have, repaired only by another name",
			edit:   func(w *kaitov1alpha1.Workspace) { w.Name = "1-model" },
			reason: kaitov1alpha1.ReasonInvalidSpec, says: []string{"1-model", "another name"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace := newNamespace(t)
			w := inferenceWorkspace(namespace, "model")
			test.edit(w)
			if test.before != nil {
				create(t, test.before(namespace)...)
			}
			before := mark(t)
			create(t, w)
			got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
				hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, test.reason)
				hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, test.reason)
				hasCondition(c, w, kaitov1alpha1.ConditionReconciling, metav1.ConditionFalse, test.reason)
			})
			message := ""
			for _, c := range got.Status.Conditions {
				if c.Type == kaitov1alpha1.ConditionStalled {
					message = c.Message
				}
			}
			for _, text := range test.says {
				assert.Contains(t, message, text)
			}
			assert.Equal(t, kaitov1alpha1.StateFailed, got.Status.State)
			assert.Empty(t, machinesOf(t, w))
			made, err := shared.audit.Writes(before, audit.User(operatorUser), audit.Verb("create"),
				audit.Not(audit.Resource("events", "secrets"))) // whether a Secret exists is asked by a dry run
			require.NoError(t, err)
			assert.Empty(t, made, audit.Table(made))
			if test.mend == nil {
				return
			}
			test.mend(t, w)
			eventuallyMachines(t, w, 1)
		})
	}
}

func patchWorkspace(t *testing.T, w *kaitov1alpha1.Workspace, edit func(*kaitov1alpha1.Workspace)) {
	t.Helper()
	got := &kaitov1alpha1.Workspace{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), got))
	before := got.DeepCopy()
	edit(got)
	require.NoError(t, shared.client.Patch(t.Context(), got, client.MergeFrom(before)))
}

func TestSecretsAreFoundWithoutTheRightToReadThem(t *testing.T) {
	namespace := newNamespace(t)
	create(t, pushSecret(namespace))
	operatorClient, err := client.New(shared.config, client.Options{Scheme: shared.client.Scheme()})
	require.NoError(t, err)
	assert.Error(
		t, operatorClient.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "push"}, &corev1.Secret{}),
		"it must not be able to read any",
	)

	// The API server compiles a policy in the background; until then it does not hold.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		planted := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "planted-", Namespace: operatorNamespace}}
		assert.ErrorContains(
			c, operatorClient.Create(t.Context(), planted), "may only ask whether a Secret exists",
			"it must not be able to make any",
		)
	}, eventually.Long, eventually.Tick)

	secrets := workspace.DryRunSecrets{Client: operatorClient}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for name, want := range map[string]bool{"push": true, "other": false, "No Name": false} {
		exists, known, err := secrets.Exists(ctx, client.ObjectKey{Namespace: namespace, Name: name})
		require.NoError(t, err, name)
		assert.True(t, known, name)
		assert.Equal(t, want, exists, name)
	}
	list := &corev1.SecretList{}
	require.NoError(t, shared.client.List(t.Context(), list, client.InNamespace(namespace)))
	assert.Len(t, list.Items, 1, "asking creates nothing")

	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none", Namespace: namespace}}
	quota.Spec.Hard = corev1.ResourceList{"count/secrets": {}}
	create(t, quota)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, known, err := secrets.Exists(t.Context(), client.ObjectKey{Namespace: namespace, Name: "another"})
		assert.NoError(c, err)
		assert.False(c, known, "what a quota answers says nothing about the Secret")
	}, eventually.Long, eventually.Tick)
}

// account is a client with an account's rights, which has some verbs on Secrets everywhere.
func account(t *testing.T, name string, verbs ...string) client.Client {
	t.Helper()
	create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: operatorNamespace}})
	config, err := shared.cluster.ServiceAccountConfig(t.Context(), operatorNamespace, name)
	require.NoError(t, err)
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: verbs}},
	}
	create(t, role, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: operatorNamespace}},
	})
	out, err := client.New(config, client.Options{Scheme: shared.client.Scheme()})
	require.NoError(t, err)
	return out
}

func TestSecretsAreNotAskedForWithoutThePolicy(t *testing.T) {
	namespace := newNamespace(t)
	for name, c := range map[string]struct {
		verbs []string
		says  string // "": it may ask
	}{
		"renamed":   {verbs: []string{"create", "dryrun"}},
		"unguarded": {verbs: []string{"create"}, says: "secret-existence"},
		"powerless": {verbs: []string{"patch"}},
	} {
		secrets := workspace.DryRunSecrets{Client: account(t, name, c.verbs...)}
		require.EventuallyWithT(t, func(ct *assert.CollectT) { // roles and policies hold after a moment
			_, known, err := secrets.Exists(t.Context(), client.ObjectKey{Namespace: namespace, Name: "token"})
			if c.says != "" {
				require.ErrorIs(ct, err, workspace.ErrUnguarded, name)
				assert.ErrorContains(ct, err, c.says)
				return
			}
			require.NoError(ct, err, name)
			assert.Equal(ct, name == "renamed", known, name)
		}, eventually.Long, eventually.Tick)
	}
	list := &corev1.SecretList{}
	require.NoError(t, shared.client.List(t.Context(), list, client.InNamespace(namespace)))
	assert.Empty(t, list.Items, "asking creates nothing")
}
