package controller_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
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
	assert.Contains(t, deployment.Spec.Template.Spec.InitContainers[0].Args, "--model-image=registry.example.com/adapter@"+digest)
}
