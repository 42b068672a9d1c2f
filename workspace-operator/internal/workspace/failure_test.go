// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

func TestASizeThatCannotBeHadIsFollowedByTheNext(t *testing.T) {
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	w.Resource = kaitov1alpha1.ResourceSpec{
		InstanceTypes: []string{"Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"},
	}
	create(t, w)
	first := eventuallyMachines(t, w, 1)[0]
	setMachine(t, &first, "", "QuotaExceeded", "needs 24 cores, has 8 of 100 left in family NCADS_A100_v4")

	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		require.Len(c, w.Status.Attempts, 1)
		assert.Equal(c, "Standard_NC40ads_H100_v5", w.Status.Plan.InstanceType)
	})
	attempt := got.Status.Attempts[0]
	assert.Equal(t, "Standard_NC24ads_A100_v4", attempt.InstanceType)
	assert.Equal(t, "QuotaExceeded", attempt.Reason, "the provider's reason is carried up unchanged")
	assert.Contains(t, attempt.Message, "needs 24 cores, has 8 of 100 left")
	second := eventuallyMachines(t, w, 1)[0]
	assert.NotEqual(t, first.Name, second.Name)

	setMachine(t, &second, "", "AllocationFailed", "no capacity in westeurope")
	got = eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, kaitov1alpha1.ReasonAttemptsExhausted)
		hasCondition(c, w, kaitov1alpha1.ConditionReconciling, metav1.ConditionTrue, kaitov1alpha1.ReasonAttemptsExhausted)
		assert.Len(c, w.Status.Attempts, 2)
	})
	eventuallyMachines(t, w, 0)
	assert.Equal(t, kaitov1alpha1.StatePending, got.Status.State, "nothing is asked for while both rest")

	// The user acts: what failed before was another wish.
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) {
		w.Resource.InstanceTypes = []string{"Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4"}
	})
	third := eventuallyMachines(t, w, 1)[0]
	launch(t, &third, "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
}

func TestClaimDeletedByItsProviderIsOneFailedAttempt(t *testing.T) {
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	create(t, w)
	machine := eventuallyMachines(t, w, 1)[0]
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		assert.Equal(c, kaitov1alpha1.StateProvisioning, w.Status.State)
	})
	require.NoError(t, shared.client.Delete(t.Context(), &machine))
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		require.Len(c, w.Status.Attempts, 1)
		assert.Equal(c, kaitov1alpha1.ReasonLaunchFailed, w.Status.Attempts[0].Reason)
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, kaitov1alpha1.ReasonAttemptsExhausted)
	})
	eventually.Never(t, func() bool {
		got := &kaitov1alpha1.Workspace{}
		return shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), got) == nil && len(got.Status.Attempts) != 1
	}, "it is counted twice")
}

func TestALostNodeIsReplacedAndANodeThatComesBackIsKept(t *testing.T) {
	o := options()
	o.Limits.NodeLost = 3 * time.Second
	start(t, o)
	w := inferenceWorkspace(newNamespace(t), "model")
	create(t, w)
	machine := eventuallyMachines(t, w, 1)[0]
	node := launch(t, &machine, "1")
	isReady := func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	}
	eventuallyWorkspace(t, w, isReady)

	// Its GPUs are gone for a moment, as when the device plugin restarts.
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(node), node))
	setGPUs(t, node, "0")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionFalse, kaitov1alpha1.ReasonNodeLost)
	})
	setGPUs(t, node, "1")
	got := eventuallyWorkspace(t, w, isReady)
	assert.Empty(t, got.Status.Attempts)
	assert.Equal(t, machine.Name, eventuallyMachines(t, w, 1)[0].Name)

	// It goes NotReady and stays so.
	before := node.DeepCopy()
	node.Annotations[cluster.NotReadyAnnotation] = "the kubelet stopped posting node status"
	require.NoError(t, shared.client.Patch(t.Context(), node, client.MergeFrom(before)))
	got = eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		require.Len(c, w.Status.Attempts, 1)
	})
	assert.Equal(t, kaitov1alpha1.ReasonNodeLost, got.Status.Attempts[0].Reason)
	require.Eventually(t, func() bool {
		ms := machinesOf(t, w)
		return len(ms) == 1 && ms[0].Name != machine.Name
	}, eventually.Long, eventually.Tick)
	next := eventuallyMachines(t, w, 1)[0]
	require.NoError(t, shared.client.Delete(t.Context(), node))
	launch(t, &next, "1")
	eventuallyWorkspace(t, w, isReady)
}

func TestNodeWithoutGPUsIsReplacedThreeTimesThenStalls(t *testing.T) {
	o := options()
	o.Limits.GPUReady = time.Second
	start(t, o)
	w := inferenceWorkspace(newNamespace(t), "model")
	create(t, w)
	seen := map[string]bool{}
	for range 4 {
		var next string
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			ms := eventuallyMachines(t, w, 1)
			assert.False(c, seen[ms[0].Name])
			next = ms[0].Name
		}, eventually.Long, eventually.Tick)
		seen[next] = true
		m := eventuallyMachines(t, w, 1)[0]
		launch(t, &m, "0")
	}
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonAcceleratorNotReady)
	})
	assert.Len(t, got.Status.Attempts, 4)
	assert.Contains(t, got.Status.Attempts[0].Message, "0 of 1 GPUs allocatable")
	eventuallyMachines(t, w, 0)
}

func TestPodFailureIsReportedUntilItIsFixed(t *testing.T) {
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	create(t, w)
	launch(t, &eventuallyMachines(t, w, 1)[0], "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
	for _, test := range []struct {
		reason  string
		outcome cluster.ContainerOutcome
		says    string
	}{
		{kaitov1alpha1.ReasonOutOfMemory, cluster.ContainerOutcome{ExitCode: 137, Reason: "OOMKilled", Restarts: 3}, "3 restarts"},
		{kaitov1alpha1.ReasonModelAccessDenied, cluster.ContainerOutcome{ExitCode: 1, Restarts: 2, Message: "huggingface_hub.errors.GatedRepoError: 401 Client Error"}, "modelAccessSecret"},
		{kaitov1alpha1.ReasonEngineCrashing, cluster.ContainerOutcome{ExitCode: 1, Restarts: 5, Message: "ValueError: something else"}, "something else"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			pod := servingPod(t, w)
			setOutcome(t, pod, cluster.Outcome{"engine": test.outcome})
			got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
				hasCondition(c, w, kaitov1alpha1.ConditionInferenceReady, metav1.ConditionFalse, test.reason)
				hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, test.reason)
			})
			for _, c := range got.Status.Conditions {
				if c.Type == kaitov1alpha1.ConditionStalled {
					assert.Contains(t, c.Message, test.says)
				}
			}
			hasCondition(t, got, kaitov1alpha1.ConditionResourceReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
			setOutcome(t, pod, cluster.Outcome{})
			eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
				hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
			})
		})
	}
}

func servingPod(t *testing.T, w *kaitov1alpha1.Workspace) *corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		pods := &corev1.PodList{}
		require.NoError(
			c,
			shared.client.List(
				t.Context(), pods, client.InNamespace(w.Namespace), client.MatchingLabels{kaitov1alpha1.LabelWorkspaceName: w.Name},
			),
		)
		require.Len(c, pods.Items, 1)
		pod = pods.Items[0]
	}, eventually.Long, eventually.Tick)
	return &pod
}

func setOutcome(t *testing.T, pod *corev1.Pod, outcome cluster.Outcome) {
	t.Helper()
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	before := pod.DeepCopy()
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[cluster.OutcomeAnnotation] = outcome.Annotation()
	require.NoError(t, shared.client.Patch(t.Context(), pod, client.MergeFrom(before)))
}

func TestAQuotaThatRefusesThePodIsSaid(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w := inferenceWorkspace(namespace, "model")
	create(t, w)
	machine := &eventuallyMachines(t, w, 1)[0]
	// It comes after the node was rented: before that a dry run would have met it.
	quota := quotaOf(namespace, corev1.ResourceList{"pods": {}})
	create(t, quota)
	counted(t, quota)
	launch(t, machine, "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionInferenceReady, metav1.ConditionFalse, kaitov1alpha1.ReasonQuotaDenied)
	})
}

func TestAFailedTuningJobIsCarriedUpUnchanged(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w := seed(namespace)
	create(t, pushSecret(namespace), w)
	launch(t, &eventuallyMachines(t, w, 1)[0], "1")
	job := eventuallyJob(t, w)
	setJob(t, job, func(*tuningv1alpha1.TuningJobStatus) {}, metav1.Condition{
		Type:    tuningv1alpha1.ConditionFailed,
		Status:  metav1.ConditionTrue,
		Reason:  tuningv1alpha1.ReasonDatasetInvalid,
		Message: "row 17 has no field messages",
	})
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, tuningv1alpha1.ReasonDatasetInvalid)
		hasCondition(c, w, kaitov1alpha1.ConditionJobStarted, metav1.ConditionFalse, tuningv1alpha1.ReasonDatasetInvalid)
	})
	for _, c := range got.Status.Conditions {
		if c.Type == kaitov1alpha1.ConditionReady {
			assert.Equal(t, "row 17 has no field messages", c.Message)
		}
	}

	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Empty(c, machinesOf(t, w), "a node that nothing runs on any more costs money until a person comes")
	}, eventually.Long, eventually.Tick)
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, tuningv1alpha1.ReasonDatasetInvalid)
		hasCondition(c, w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionFalse, kaitov1alpha1.ReasonNotNeeded)
		assert.Empty(c, w.Status.WorkerNodes)
		assert.Empty(c, w.Status.Attempts, "nodes that were given back have not failed")
	})
	require.NoError(
		t,
		shared.client.DeleteAllOf(
			t.Context(), &corev1.Node{}, client.MatchingLabels{kaitov1alpha1.LabelWorkspaceUID: string(w.UID)},
		),
	) // as a provisioner does
	require.NoError(t, shared.client.Delete(t.Context(), job))
	launch(t, &eventuallyMachines(t, w, 1)[0], "1")
	again := eventuallyJob(t, w)
	assert.NotEqual(t, job.UID, again.UID, "deleting the TuningJob repeats the run")
}

func TestWhatSomebodyElseHasMadeIsNotTakenOver(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	foreign := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "model", Namespace: namespace},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "other"}, Ports: []corev1.ServicePort{{Name: "http", Port: 8080}},
		},
	}
	w := inferenceWorkspace(namespace, "model")
	create(t, foreign, w)
	launch(t, &eventuallyMachines(t, w, 1)[0], "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonNameTaken)
	})
	got := &corev1.Service{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(foreign), got))
	assert.Equal(t, foreign.Spec.Selector, got.Spec.Selector)
	assert.Empty(t, got.OwnerReferences)

	require.NoError(t, shared.client.Delete(t.Context(), foreign))
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
}

func TestNodesOfOnesOwnAreUsedOnceAndNeverMade(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	labels := map[string]string{"pool": namespace, corev1.LabelInstanceTypeStable: "Standard_NC24ads_A100_v4"}
	own := func(name string) *kaitov1alpha1.Workspace {
		w := inferenceWorkspace(namespace, name)
		w.Resource = kaitov1alpha1.ResourceSpec{
			Provisioning: kaitov1alpha1.ProvisioningNever,
			LabelSelector: &metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{
					{Key: "pool", Operator: metav1.LabelSelectorOpIn, Values: []string{namespace}},
				},
			},
		}
		return w
	}
	first, second := own("first"), own("second")
	create(t, first)
	eventuallyWorkspace(t, first, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonNoMatchingNode)
	})
	node := joinNode(t, "own-"+namespace, labels, nil, "1")
	got := eventuallyWorkspace(t, first, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
	assert.Equal(t, []string{node.Name}, got.Status.WorkerNodes)
	assert.Equal(t, node.Name, servingPod(t, first).Spec.NodeName)
	create(t, second)
	eventuallyWorkspace(t, second, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonNoMatchingNode)
	})
	assert.Empty(t, machinesOf(t, first))
	assert.Empty(t, machinesOf(t, second))

	require.NoError(t, shared.client.Delete(t.Context(), first))
	eventuallyWorkspace(t, second, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
	require.NoError(
		t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(node), node), "a node of one's own is not deleted",
	)
}

func TestCountZeroReleasesNodesAndCountOneRestoresThem(t *testing.T) {
	start(t, options())
	w := ready(t, inferenceWorkspace(newNamespace(t), "model"))
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Resource.Count = ptr.To[int32](0) })
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonScaledToZero)
		hasCondition(c, w, kaitov1alpha1.ConditionInferenceReady, metav1.ConditionFalse, kaitov1alpha1.ReasonScaledToZero)
		assert.Equal(c, kaitov1alpha1.StateStopped, w.Status.State)
		assert.Empty(c, w.Status.WorkerNodes)
	})
	eventuallyMachines(t, w, 0)
	require.Error(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), &appsv1.Deployment{}))
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Resource.Count = ptr.To[int32](1) })
	eventuallyMachines(t, w, 1)
}

func TestATunedModelThatIsNotToBeServedReleasesItsNodes(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w := seed(namespace)
	w.Tuning.Serve = kaitov1alpha1.ServeNever
	create(t, pushSecret(namespace), w)
	launch(t, &eventuallyMachines(t, w, 1)[0], "1")
	succeed(t, eventuallyJob(t, w))
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonNotNeeded)
		assert.Equal(c, kaitov1alpha1.StateSucceeded, w.Status.State)
	})
	assert.Equal(t, digest, got.Status.Tuning.Digest)
	eventuallyMachines(t, w, 0)
	assert.Error(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), &appsv1.Deployment{}))
}
