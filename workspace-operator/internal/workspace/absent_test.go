// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/eventually"
)

func definition(t *testing.T, file string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	raw, err := os.ReadFile("../../../shared/api/crds/" + file)
	require.NoError(t, err)
	crd := &apiextensionsv1.CustomResourceDefinition{}
	require.NoError(t, yaml.Unmarshal(raw, crd))
	return crd
}

// withhold removes kinds from the cluster; the returned function brings them back, and the test's end does so in any
// case.
func withhold(t *testing.T, crds ...*apiextensionsv1.CustomResourceDefinition) (back func()) {
	t.Helper()
	for _, crd := range crds {
		require.NoError(t, client.IgnoreNotFound(shared.client.Delete(t.Context(), crd)))
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		for _, crd := range crds {
			err := shared.client.Get(t.Context(), client.ObjectKeyFromObject(crd), &apiextensionsv1.CustomResourceDefinition{})
			assert.True(c, apierrors.IsNotFound(err))
		}
	}, eventually.Long, eventually.Tick)
	returned := false
	back = func() {
		if returned {
			return
		}
		returned = true
		for _, crd := range crds {
			require.NoError(t, shared.client.Create(t.Context(), crd.DeepCopy()))
		}
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			for _, crd := range crds {
				got := &apiextensionsv1.CustomResourceDefinition{}
				require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(crd), got))
				established := false
				for _, condition := range got.Status.Conditions {
					established = established ||
						condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue
				}
				assert.True(c, established)
			}
		}, eventually.Long, eventually.Tick)
	}
	t.Cleanup(func() {
		if !returned {
			for _, crd := range crds {
				_ = shared.client.Create(t.Context(), crd.DeepCopy()) // the test has failed already
			}
		}
	})
	return back
}

func TestMissingNodeAPIStallsUntilItIsInstalled(t *testing.T) {
	back := withhold(t, definition(t, "karpenter.sh_machines.yaml"), nodeClaimCRD())
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	create(t, w)
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonNodeAPIMissing)
		hasCondition(c, w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionFalse, kaitov1alpha1.ReasonNodeAPIMissing)
	})
	back()
	eventuallyMachines(t, w, 1)
}

func TestWithoutMachinesNodeClaimsAreAskedFor(t *testing.T) {
	back := withhold(t, definition(t, "karpenter.sh_machines.yaml"))
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	create(t, w)
	var claim karpv1.NodeClaim
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		list := &karpv1.NodeClaimList{}
		require.NoError(
			c, shared.client.List(t.Context(), list, client.MatchingLabels{kaitov1alpha1.LabelWorkspaceNamespace: w.Namespace}),
		)
		require.Len(c, list.Items, 1)
		claim = list.Items[0]
	}, eventually.Long, eventually.Tick)
	assert.Equal(
		t, &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}, claim.Spec.NodeClassRef,
	)
	assert.Equal(t, "true", claim.Annotations[karpv1.DoNotDisruptAnnotationKey])
	assert.Nil(t, claim.Spec.ExpireAfter.Duration, "the Workspace decides when its node goes")

	node := joinNode(t, "aks-"+claim.Name, claim.Labels, claim.Spec.Taints, "1")
	before := claim.DeepCopy()
	claim.Status.NodeName = node.Name
	for _, c := range []string{karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized} {
		claim.StatusConditions().SetTrue(c)
	}
	require.NoError(t, shared.client.Status().Patch(t.Context(), &claim, client.MergeFrom(before)))
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
		hasCondition(c, w, kaitov1alpha1.ConditionNodeClaimReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})

	// Machines come to be served while the Workspace has a NodeClaim: what it has stays.
	back()
	machine := false
	for end := time.Now().Add(eventually.Long); !machine && time.Now().Before(end); {
		machine = getsMachine(t, w.Namespace)
	}
	assert.True(t, machine, "no new Workspace got a Machine")
	assert.Empty(t, machinesOf(t, w))
	require.NoError(t, shared.client.Delete(t.Context(), w))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.True(
			c, apierrors.IsNotFound(shared.client.Get(t.Context(), client.ObjectKeyFromObject(&claim), &karpv1.NodeClaim{})),
		)
	}, eventually.Long, eventually.Tick)
}

// getsMachine creates a Workspace and reports whether it got a Machine. Until the operator sees that Machines are served,
// it gets a NodeClaim.
func getsMachine(t *testing.T, namespace string) bool {
	t.Helper()
	w := inferenceWorkspace(namespace, "other-"+strings.ToLower(rand.Text()))
	create(t, w)
	machine := false
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		list := &karpv1.NodeClaimList{}
		require.NoError(c, shared.client.List(t.Context(), list, client.MatchingLabels{
			kaitov1alpha1.LabelWorkspaceName: w.Name, kaitov1alpha1.LabelWorkspaceNamespace: w.Namespace,
		}))
		machine = len(machinesOf(c, w)) > 0
		assert.True(c, machine || len(list.Items) > 0, "it has neither")
	}, eventually.Long, eventually.Tick)
	return machine
}

func TestMissingTuningJobAPIStallsUntilItIsInstalled(t *testing.T) {
	back := withhold(t, definition(t, "tuning.kaito.sh_tuningjobs.yaml"))
	start(t, options())
	namespace := newNamespace(t)
	w := seed(namespace)
	create(t, pushSecret(namespace), w)
	launch(t, &eventuallyMachines(t, w, 1)[0], "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(
			c, w, kaitov1alpha1.ConditionJobStarted, metav1.ConditionFalse, kaitov1alpha1.ReasonTuningOperatorMissing,
		)
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonTuningOperatorMissing)
	})
	back()
	job := eventuallyJob(t, w)
	// It goes again, and comes back, while the operator runs.
	again := withhold(t, definition(t, "tuning.kaito.sh_tuningjobs.yaml"))
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(
			c, w, kaitov1alpha1.ConditionJobStarted, metav1.ConditionFalse, kaitov1alpha1.ReasonTuningOperatorMissing,
		)
	})
	again()
	require.NotEqual(t, job.UID, eventuallyJob(t, w).UID)
	succeed(t, eventuallyJob(t, w))
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
}

func TestWhereNobodyAnswersTheWorkspaceSaysWhoIsMissing(t *testing.T) {
	o := options()
	o.Limits.Acknowledge = time.Second
	start(t, o)
	namespace := newNamespace(t)
	w := seed(namespace)
	create(t, pushSecret(namespace), w)
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionMachineReady, metav1.ConditionFalse, kaitov1alpha1.ReasonNoProvisioner)
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonNoProvisioner)
	})
	// The provisioner comes after all.
	launch(t, &eventuallyMachines(t, w, 1)[0], "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonTuningOperatorMissing)
	})
	succeed(t, eventuallyJob(t, w))
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
}
