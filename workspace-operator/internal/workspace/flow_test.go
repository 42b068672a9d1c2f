// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
)

func TestTheSeedsWorkspaceIsTunedAndThenServed(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w := seed(namespace)
	create(t, pushSecret(namespace), w)

	machine := eventuallyMachines(t, w, 1)[0]
	assert.Regexp(t, `^ws[0-9a-f]{9}$`, machine.Name)
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionFalse, kaitov1alpha1.ReasonProvisioning)
		hasCondition(c, w, kaitov1alpha1.ConditionMachineReady, metav1.ConditionFalse, kaitov1alpha1.ReasonProvisioning)
	})
	assert.Equal(t, kaitov1alpha1.StateProvisioning, got.Status.State)
	assert.Contains(t, got.Finalizers, kaitov1alpha1.Finalizer)

	node := launch(t, &machine, "1")
	job := eventuallyJob(t, w)
	assert.True(t, metav1.IsControlledBy(job, got))
	assert.Equal(t, map[string]string{kaitov1alpha1.LabelWorkspaceUID: string(got.UID)}, job.Spec.Resources.NodeSelector)
	assert.EqualValues(t, 1, *job.Spec.Resources.GPUsPerNode)
	assert.Equal(t, tuningv1alpha1.MethodQLora, job.Spec.Method)
	assert.Nil(t, job.Spec.Suspend)

	setJob(t, job, func(s *tuningv1alpha1.TuningJobStatus) {
		s.Progress = &tuningv1alpha1.Progress{Step: 450, TotalSteps: 1000, Percent: "45%"}
	}, metav1.Condition{Type: tuningv1alpha1.ConditionRunning, Status: metav1.ConditionTrue, Reason: tuningv1alpha1.ReasonTraining})
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionJobStarted, metav1.ConditionTrue, kaitov1alpha1.ReasonTuning)
		require.NotNil(c, w.Status.Tuning)
		assert.Equal(c, "45% (450/1000)", w.Status.Tuning.Progress)
		assert.Equal(c, kaitov1alpha1.StateTuning, w.Status.State)
	})
	succeed(t, job)

	got = eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		for _, condition := range []string{
			kaitov1alpha1.ConditionReady, kaitov1alpha1.ConditionResourceReady, kaitov1alpha1.ConditionInferenceReady,
			kaitov1alpha1.ConditionWorkspaceReady, kaitov1alpha1.ConditionWorkspaceSucceeded, kaitov1alpha1.ConditionMachineReady,
		} {
			hasCondition(c, w, condition, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
		}
	})
	assert.Equal(t, kaitov1alpha1.StateRunning, got.Status.State)
	assert.Equal(t, []string{node.Name}, got.Status.WorkerNodes)
	assert.EqualValues(t, 1, got.Status.TargetNodeCount)
	assert.Equal(t, got.Generation, got.Status.ObservedGeneration)
	assert.Equal(t, digest, got.Status.Tuning.Digest)
	assert.Equal(t, "http://"+w.Name+"."+namespace+".svc", got.Status.Endpoint)
	require.NotNil(t, got.Status.Plan)
	assert.NotEmpty(t, got.Status.Plan.Memory.Weights)
	m := got.Status.Milestones
	for name, at := range map[string]*metav1.Time{"planned": m.Planned, "requested": m.NodesRequested, "ready": m.NodesReady, "tuned": m.Tuned, "engine": m.EngineReady, "image": m.ImagePulled} {
		assert.NotNil(t, at, name)
	}

	service := &corev1.Service{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), service))
	ports := map[int32]intstr.IntOrString{}
	for _, p := range service.Spec.Ports {
		ports[p.Port] = p.TargetPort
	}
	assert.Equal(t, map[int32]intstr.IntOrString{80: intstr.FromInt32(5000), 29500: intstr.FromInt32(29500)}, ports)
	deployment := &appsv1.Deployment{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), deployment))
	containers := deployment.Spec.Template.Spec.Containers
	require.Len(t, containers, 2)
	assert.Contains(t, containers[0].Args, w.Name+"=/adapters/"+w.Name)
	assert.Contains(t, containers[1].Args, "--model="+w.Name)
	require.Len(t, deployment.Spec.Template.Spec.InitContainers, 1)
	assert.Contains(
		t, deployment.Spec.Template.Spec.InitContainers[0].Args, "--model-image=registry.example.com/adapter@"+digest,
	)
}

func TestEditsAreRolledOutAndNothingElseIs(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w := inferenceWorkspace(namespace, "model")
	w.Inference.Config = "config"
	create(t, configMap(namespace, "config", map[string]string{"inference_config.yaml": "vllm: {max-num-seqs: 8}"}))
	w = ready(t, w)
	deployment := func() *appsv1.Deployment {
		d := &appsv1.Deployment{}
		// Never's last look may outlive the test, and its context.
		require.NoError(t, shared.client.Get(context.Background(), client.ObjectKeyFromObject(w), d))
		return d
	}
	first := deployment()
	assert.Contains(t, first.Spec.Template.Spec.Containers[0].Args, "--max-num-seqs=8")

	update := configMap(namespace, "config", map[string]string{"inference_config.yaml": "vllm: {max-num-seqs: 16}"})
	require.NoError(t, shared.client.Update(t.Context(), update))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Contains(c, deployment().Spec.Template.Spec.Containers[0].Args, "--max-num-seqs=16")
	}, eventually.Long, eventually.Tick)
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})

	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) {
		w.Inference.Adapters = []kaitov1alpha1.AdapterSpec{
			{Source: &kaitov1alpha1.DataSource{Name: "style", Image: "registry.example.com/style:1"}},
		}
	})
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Contains(c, deployment().Spec.Template.Spec.Containers[0].Args, "style=/adapters/style")
	}, eventually.Long, eventually.Tick)
	assert.Len(t, machinesOf(t, w), 1, "an edit of the model asks for no other node")

	generation := deployment().Generation
	require.NoError(
		t,
		shared.client.Update(
			t.Context(),
			configMap(namespace, "config", map[string]string{"inference_config.yaml": "vllm: {max-num-seqs: 16}", "other": "x"}),
		),
	)
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Labels = map[string]string{"touched": "yes"} })
	eventually.Never(t, func() bool { return deployment().Generation != generation }, "the Deployment is written again")
}

func TestAnotherBuildOfTheOperatorRollsNothing(t *testing.T) {
	first := start(t, options())
	w := ready(t, inferenceWorkspace(newNamespace(t), "model"))
	first.stop()
	before := mark(t)
	other := options()
	other.Images.Gateway, other.Images.Runner = "example.com/gateway:2", "example.com/runner:2"
	start(t, other)
	eventually.Never(t, func() bool { return len(calls(t, before)) > 0 }, "something is written")
	require.NoError(t, shared.client.Delete(t.Context(), w))
	require.Eventually(t, func() bool {
		return apierrors.IsNotFound(shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), &kaitov1alpha1.Workspace{}))
	}, eventually.Long, eventually.Tick)
}

// large is a Workspace whose model needs several nodes, and the Machines that it has asked for.
func large(t *testing.T, namespace string) (*kaitov1alpha1.Workspace, []karpenterv1alpha5.Machine) {
	t.Helper()
	return largeNamed(t, namespace, "model")
}

func largeNamed(t *testing.T, namespace, name string) (*kaitov1alpha1.Workspace, []karpenterv1alpha5.Machine) {
	t.Helper()
	w := inferenceWorkspace(namespace, name)
	w.Inference.Preset.Name = "llama-3.3-70b-instruct"
	w.Resource = kaitov1alpha1.ResourceSpec{InstanceType: "Standard_NC24ads_A100_v4", Count: ptr.To[int32](4)}
	create(t, pushSecret(namespace), w)
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		require.NotNil(c, w.Status.Plan)
		assert.Greater(c, w.Status.Plan.Nodes, int32(1))
	})
	return w, eventuallyMachines(t, w, int(got.Status.Plan.Nodes))
}

func TestALargeModelIsServedFromSeveralNodes(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w, machines := large(t, namespace)
	nodes := len(machines)
	for i := range machines[:nodes-1] {
		launch(t, &machines[i], "1")
	}
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		assert.Len(c, w.Status.WorkerNodes, nodes-1)
		hasCondition(c, w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionFalse, kaitov1alpha1.ReasonProvisioning)
	})
	set := &appsv1.StatefulSet{}
	assert.Error(
		t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), set), "nothing starts before all nodes are there",
	)
	launch(t, &machines[nodes-1], "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
		assert.Len(c, w.Status.WorkerNodes, nodes)
	})
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), set))
	assert.EqualValues(t, nodes, *set.Spec.Replicas)
	service := &corev1.Service{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), service))
	assert.Equal(t, "0", service.Spec.Selector[appsv1.PodIndexLabel], "only rank 0 answers")
	for _, o := range []client.Object{&policyv1.PodDisruptionBudget{}, &networkingv1.NetworkPolicy{}} {
		assert.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), o))
	}
	peers := &corev1.Service{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "model-peers"}, peers))
	assert.True(t, peers.Spec.PublishNotReadyAddresses)
}

// The pods of a server of several nodes are kept together by a budget, which would keep each of its nodes for ever: a
// drain respects it.
func TestABudgetKeepsNoNodeThatIsGivenBack(t *testing.T) {
	start(t, options())
	w, machines := large(t, newNamespace(t))
	for i := range machines {
		launch(t, &machines[i], "1")
	}
	ready := func() {
		eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
			hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
		})
	}
	allows := func(unavailable string) {
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			budget := &policyv1.PodDisruptionBudget{}
			require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), budget))
			assert.Equal(c, unavailable, budget.Spec.MaxUnavailable.String())
		}, eventually.Long, eventually.Tick)
	}
	ready()
	allows("0")

	leaving := &machines[0]
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(leaving), leaving))
	controllerutil.AddFinalizer(leaving, karpenterv1alpha5.TerminationFinalizer)
	require.NoError(t, shared.client.Update(t.Context(), leaving))
	require.NoError(t, shared.client.Delete(t.Context(), leaving))
	allows("100%")
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(leaving), leaving))
	controllerutil.RemoveFinalizer(leaving, karpenterv1alpha5.TerminationFinalizer)
	require.NoError(t, shared.client.Update(t.Context(), leaving))
	for i, m := range eventuallyMachines(t, w, len(machines)) {
		if m.Status.NodeName == "" {
			launch(t, &eventuallyMachines(t, w, len(machines))[i], "1")
		}
	}
	ready()
	allows("0")
}

func TestAnAddressOutsideTheClusterNeedsKeys(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w := inferenceWorkspace(namespace, "model")
	w.Annotations = map[string]string{"kaito.sh/enablelb": "true"}
	create(t, w)
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonInvalidSpec)
	})
	assert.Empty(t, machinesOf(t, w), "what can never be served rents nothing")
	create(
		t,
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "keys", Namespace: namespace},
			StringData: map[string]string{"keys": "secret"},
		},
	)
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Annotations["kaito.sh/api-keys"] = "keys" })
	launch(t, &eventuallyMachines(t, w, 1)[0], "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
	service := &corev1.Service{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), service))
	assert.Equal(t, corev1.ServiceTypeLoadBalancer, service.Spec.Type)
	require.Len(t, service.Spec.Ports, 1, "the rendezvous is not published")
	assert.EqualValues(t, 80, service.Spec.Ports[0].Port)

	// An earlier build published the rendezvous, too.
	earlier := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Name:            w.Name,
			Namespace:       namespace,
			Labels:          service.Labels,
			OwnerReferences: service.OwnerReferences,
			Annotations:     map[string]string{"kaito.sh/intent": "another"},
		},
		Spec: corev1.ServiceSpec{Type: service.Spec.Type, Selector: service.Spec.Selector, Ports: []corev1.ServicePort{
			{
				Name:       "http",
				Protocol:   corev1.ProtocolTCP,
				Port:       80,
				TargetPort: intstr.FromInt32(5000),
			},
			{Name: "rendezvous", Protocol: corev1.ProtocolTCP, Port: 29500, TargetPort: intstr.FromInt32(29500)},
		}},
	}
	applied := client.Apply //nolint:staticcheck // the new Apply takes no typed object
	require.NoError(t, shared.client.Patch(
		t.Context(), earlier, applied, client.FieldOwner(kaitov1alpha1.FieldManager), client.ForceOwnership,
	))
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Labels = map[string]string{"touched": "yes"} })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), service))
		assert.Len(c, service.Spec.Ports, 1)
	}, eventually.Long, eventually.Tick)
}

func TestAPolicyOfOneProcessIsMadeAndMadeAgain(t *testing.T) {
	start(t, options())
	w := ready(t, inferenceWorkspace(newNamespace(t), "model"))
	policy := &networkingv1.NetworkPolicy{}
	require.NoError(
		t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), policy),
		"vLLM opens a store on the pod's address for one process, too",
	)
	require.NoError(t, shared.client.Delete(t.Context(), policy))
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Labels = map[string]string{"touched": "yes"} })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), policy))
	}, eventually.Long, eventually.Tick)

	// A change is seen, though the policy was found to be right before.
	rules := len(policy.Spec.Ingress)
	opened := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":null},"spec":{"ingress":[{}]}}`))
	require.NoError(t, shared.client.Patch(t.Context(), policy, opened))
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Labels = map[string]string{"touched": "again"} })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), policy))
		assert.Len(c, policy.Spec.Ingress, rules)
	}, eventually.Long, eventually.Tick)
}

func TestALongNameIsServedFromSeveralNodes(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w, machines := largeNamed(t, namespace, strings.Repeat("a", 63))
	for i := range machines {
		launch(t, &machines[i], "1")
	}
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
	sets := &appsv1.StatefulSetList{}
	require.NoError(t, shared.client.List(t.Context(), sets, client.InNamespace(namespace)))
	require.Len(t, sets.Items, 1)
	assert.LessOrEqual(t, len(sets.Items[0].Name), 52)
	require.NoError(
		t,
		shared.client.Get(
			t.Context(), client.ObjectKey{Namespace: namespace, Name: sets.Items[0].Spec.ServiceName}, &corev1.Service{},
		),
	)
}

func TestReservedLabelsRentNothing(t *testing.T) {
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	w.Resource.LabelSelector = &metav1.LabelSelector{
		MatchLabels: map[string]string{"node-restriction.kubernetes.io/trusted": "yes"},
	}
	create(t, w)
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonInvalidSpec)
	})
	assert.Contains(
		t,
		conditions.Get(got, kaitov1alpha1.ConditionStalled).Message,
		`resource.labelSelector.matchLabels[node-restriction.kubernetes.io/trusted] is "yes"`,
	)
	assert.Empty(t, machinesOf(t, w))
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Resource.Provisioning = kaitov1alpha1.ProvisioningNever })
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonNoMatchingNode)
	})
}
