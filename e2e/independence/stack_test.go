// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// withoutLease has an operator work without a lease: there is one process of each, and on a machine that is busy with
// other tests a lease that could not be renewed for ten seconds would end it, with no kubelet there to start it again.
var withoutLease = []string{"--leader-elect=false"}

// startStack starts a stack whose operators work without leases.
func startStack(t *testing.T, options stack.Options) *stack.Stack {
	t.Helper()
	if options.Args == nil {
		options.Args = map[stack.Operator][]string{}
	}
	for _, o := range stack.Operators {
		options.Args[o] = slices.Concat(options.Args[o], withoutLease)
	}
	return stacktest.Start(t, options)
}

// objects lists all objects of a kind, in all namespaces.
func objects(t *testing.T, s *stack.Stack, apiVersion, kind string) []unstructured.Unstructured {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion(apiVersion)
	list.SetKind(kind)
	require.NoError(t, s.Client.List(t.Context(), list))
	return list.Items
}

// eventuallyGet waits until an object is as check wants it.
func eventuallyGet(t *testing.T, s *stack.Stack, obj client.Object, check func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, s.Health())
		require.NoError(c, s.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj))
		check(c)
	}, stacktest.Journey, eventually.StoryTick)
}

// runHandMade runs controllers of the test's own, with every right, until the returned function is called or the test
// ends.
func runHandMade(t *testing.T, s *stack.Stack, setups ...func(ctrl.Manager) error) (stop func()) {
	t.Helper()
	mgr, err := ctrl.NewManager(s.Cluster.Config(), ctrl.Options{
		Scheme: s.Client.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}, // several tests run the same controller
	})
	require.NoError(t, err)
	for _, setup := range setups {
		require.NoError(t, setup(mgr))
	}
	ctx, cancel := context.WithCancel(context.Background()) // not the test's, which ends before its clean-ups
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			assert.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return stop
}

// bringNode creates a GPU node, as a user of own nodes does.
func bringNode(t *testing.T, s *stack.Stack, name, size string, gpus int64, labels map[string]string) {
	t.Helper()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelInstanceTypeStable: size,
				corev1.LabelHostname:           name,
				corev1.LabelOSStable:           "linux",
				corev1.LabelArchStable:         "amd64",
			},
			Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue},
		},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}}},
	}
	for key, value := range labels {
		node.Labels[key] = value
	}
	require.NoError(t, s.Client.Create(t.Context(), node))
	before := node.DeepCopy()
	node.Status.Allocatable = corev1.ResourceList{
		kaitov1alpha1.ResourceNvidiaGPU: *resource.NewQuantity(gpus, resource.DecimalSI),
		corev1.ResourceCPU:              resource.MustParse("24"), corev1.ResourceMemory: resource.MustParse("220Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"), corev1.ResourcePods: resource.MustParse("110"),
	}
	node.Status.Capacity = node.Status.Allocatable
	require.NoError(t, s.Client.Status().Patch(t.Context(), node, client.MergeFrom(before)))
}

// inference is a Workspace that serves a preset that fits one GPU.
func inference(name string) *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: stacktest.Namespace},
		Resource: kaitov1alpha1.ResourceSpec{
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		},
		Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"}},
	}
}

// quickStartData is what the quick start's Workspace is tuned on; the stack's hub has it.
const quickStartData = "https://huggingface.co/datasets/philschmid/dolly-15k-oai-style/resolve/main/data/train-00000-of-00001-54e3756291ca09c6.parquet?download=true"

// tuningJob is a TuningJob that runs on a node of the blue team.
func tuningJob(s *stack.Stack) *tuningv1alpha1.TuningJob {
	return &tuningv1alpha1.TuningJob{
		ObjectMeta: metav1.ObjectMeta{Name: "alone", Namespace: stacktest.Namespace},
		Spec: tuningv1alpha1.TuningJobSpec{
			Model:  tuningv1alpha1.ModelSpec{Preset: "phi-3-mini-128k-instruct"},
			Method: tuningv1alpha1.MethodQLora,
			Input:  tuningv1alpha1.Source{URLs: []string{quickStartData}},
			Output: tuningv1alpha1.Destination{
				Image:           s.RegistryHost() + "/tuned/alone:1",
				ImagePushSecret: stacktest.PushSecret,
			},
			Resources: tuningv1alpha1.ResourcesSpec{NodeSelector: map[string]string{"team": "blue"}},
		},
	}
}

// eventuallyGone waits until an object is deleted.
func eventuallyGone(t *testing.T, s *stack.Stack, obj client.Object) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, s.Health())
		err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj)
		assert.True(c, apierrors.IsNotFound(err), "%v", err)
	}, stacktest.Journey, eventually.StoryTick)
}
