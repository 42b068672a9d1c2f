// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/scheme"
	"kaito.sh/workspace-operator/internal/serving"
)

type allServed struct{}

func (allServed) Served(context.Context, client.Object) (bool, error) { return true, nil }

type allThere struct{}

func (allThere) Exists(context.Context, client.ObjectKey) (bool, bool, error) { return true, true, nil }

// maybe is a value or nil.
func maybe[T any](g *rapid.Generator[T]) *rapid.Generator[*T] { return rapid.Ptr(g, true) }

var (
	presets = rapid.SampledFrom(
		[]string{
			"phi-3-mini-128k-instruct",
			"llama-3.3-70b-instruct",
			"gpt-oss-20b",
			"deepseek-r1-0528",
			"unknown/model",
			"phi-4@main",
			"@",
			"a/b/c",
		},
	)
	sizes = rapid.SampledFrom(
		[]string{"", "Standard_NC6s_v3", "Standard_NC24ads_A100_v4", "Standard_ND96isr_H100_v5", "Standard_D2s_v3", "?"},
	)
	configs    = rapid.SampledFrom([]string{"", "inference", "training", "missing"})
	names      = rapid.SampledFrom([]string{"", "a", "b", "w"})
	secretList = rapid.SliceOfN(names, 0, 3)
)

func genPreset() *rapid.Generator[kaitov1alpha1.PresetSpec] {
	return rapid.Custom(func(t *rapid.T) kaitov1alpha1.PresetSpec {
		p := kaitov1alpha1.PresetSpec{Name: presets.Draw(t, "preset")}
		if rapid.Bool().Draw(t, "options") {
			p.PresetOptions = &kaitov1alpha1.PresetOptions{
				Image:             names.Draw(t, "image"),
				ImagePullSecrets:  secretList.Draw(t, "pull"),
				ModelAccessSecret: names.Draw(t, "token"),
			}
		}
		return p
	})
}

func genSource() *rapid.Generator[kaitov1alpha1.DataSource] {
	return rapid.Custom(func(t *rapid.T) kaitov1alpha1.DataSource {
		s := kaitov1alpha1.DataSource{
			Name:             names.Draw(t, "name"),
			Image:            names.Draw(t, "image"),
			ImagePullSecrets: secretList.Draw(t, "pull"),
			URLs:             secretList.Draw(t, "urls"),
		}
		if rapid.Bool().Draw(t, "volume") {
			s.VolumeSource = embedded.NewVolumeSource(corev1.VolumeSource{})
		}
		return s
	})
}

func genWorkspace() *rapid.Generator[*kaitov1alpha1.Workspace] {
	return rapid.Custom(func(t *rapid.T) *kaitov1alpha1.Workspace {
		w := &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{
			Name:       rapid.SampledFrom([]string{"w", "1-w", "w.w"}).Draw(t, "name"),
			Namespace:  "ns",
			UID:        "6b1f",
			Generation: 1,
			Annotations: map[string]string{
				serving.AnnotationLoadBalancer: names.Draw(t, "lb"),
				serving.AnnotationAPIKeys:      names.Draw(t, "keys"),
			},
		}}
		w.Resource = kaitov1alpha1.ResourceSpec{
			InstanceType:  sizes.Draw(t, "size"),
			InstanceTypes: rapid.SliceOfN(sizes, 0, 3).Draw(t, "sizes"),
			CapacityTypes: rapid.SliceOfN(rapid.SampledFrom([]kaitov1alpha1.CapacityType{"on-demand", "spot"}), 0, 2).
				Draw(t, "capacity"),
			Provisioning: rapid.SampledFrom([]kaitov1alpha1.ProvisioningMode{"", "Auto", "Always", "Never"}).
				Draw(t, "provisioning"),
			Count:          maybe(rapid.Int32Range(0, 100)).Draw(t, "count"),
			PreferredNodes: secretList.Draw(t, "preferred"),
		}
		if rapid.Bool().Draw(t, "selector") {
			w.Resource.LabelSelector = &metav1.LabelSelector{
				MatchLabels: map[string]string{"a": names.Draw(t, "label")},
				MatchExpressions: []metav1.LabelSelectorRequirement{
					{
						Key:      "b",
						Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{"In", "Exists", "What"}).Draw(t, "operator"),
					},
				},
			}
		}
		if rapid.Bool().Draw(t, "partition") {
			w.Resource.Partition = &kaitov1alpha1.PartitionSpec{
				Mode:    "MIG",
				Profile: rapid.SampledFrom([]string{"", "1g.10gb", "7g.80gb", "9g.1gb"}).Draw(t, "profile"),
				Count:   maybe(rapid.Int32Range(1, 56)).Draw(t, "slices"),
			}
		}
		if rapid.Bool().Draw(t, "inference") {
			w.Inference = &kaitov1alpha1.InferenceSpec{
				Preset: maybe(genPreset()).Draw(t, "preset"),
				Config: configs.Draw(t, "config"),
			}
			if rapid.Bool().Draw(t, "template") {
				w.Inference.Template = embedded.NewPodTemplate(corev1.PodTemplateSpec{})
			}
			for range rapid.IntRange(0, 3).Draw(t, "adapters") {
				w.Inference.Adapters = append(
					w.Inference.Adapters,
					kaitov1alpha1.AdapterSpec{
						Source:   maybe(genSource()).Draw(t, "source"),
						Strength: maybe(rapid.SampledFrom([]string{"", "1", "1.0", "0.5"})).Draw(t, "strength"),
					},
				)
			}
		}
		if rapid.Bool().Draw(t, "tuning") {
			w.Tuning = &kaitov1alpha1.TuningSpec{
				Preset: maybe(genPreset()).Draw(t, "tuned"),
				Method: rapid.SampledFrom([]kaitov1alpha1.TuningMethod{"", "lora", "QLORA"}).Draw(t, "method"),
				Config: configs.Draw(t, "training"),
				Input:  maybe(genSource()).Draw(t, "input"),
				Serve:  rapid.SampledFrom([]kaitov1alpha1.ServePolicy{"", "OnSuccess", "Never"}).Draw(t, "serve"),
			}
			if rapid.Bool().Draw(t, "output") {
				w.Tuning.Output = &kaitov1alpha1.DataDestination{
					Image:           names.Draw(t, "output image"),
					ImagePushSecret: names.Draw(t, "push"),
				}
			}
		}
		return w
	})
}

// What the schema lets through, and more, never panics: not before nodes are there, not with them, not after tuning,
// not on the way out.
func TestNoWorkspacePanicsTheReconciler(t *testing.T) {
	t.Parallel()
	scheme, err := scheme.New()
	require.NoError(t, err)
	c, err := catalog.Load()
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		w := genWorkspace().Draw(t, "workspace")
		store := Indexed(fake.NewClientBuilder().WithScheme(scheme)).
			WithStatusSubresource(&kaitov1alpha1.Workspace{}, &karpenterv1alpha5.Machine{}, &tuningv1alpha1.TuningJob{}).
			WithObjects(w,
				&corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Name: "inference", Namespace: "ns"},
					Data: map[string]string{
						keyInferenceConfig: rapid.SampledFrom([]string{"", "vllm: {max-model-len: 4096}", "vllm: 3", ":", "[]"}).
							Draw(t, "inference text"),
					},
				},
				&corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Name: "training", Namespace: "ns"},
					Data: map[string]string{
						keyTrainingConfig: rapid.SampledFrom([]string{"", "LoraConfig: {r: 64}", "LoraConfig: 3", "training_config: {LoraConfig: {r: x}}"}).
							Draw(t, "training text"),
					},
				},
			).
			Build()
		options := DefaultOptions()
		options.StatusHold = 0 // every pass is to write what it has come to
		r, err := New(Config{
			Client: store, Live: store, Kinds: allServed{}, Secrets: allThere{}, Catalog: c, Engine: vllm.Engine{},
			Events: events.NewFakeRecorder(1000), Clock: clock.RealClock{}, Options: options,
		})
		require.NoError(t, err)
		key := client.ObjectKeyFromObject(w)
		pass := func() {
			_, err := r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
			if err != nil && !apierrors.IsConflict(err) {
				t.Logf("pass: %v", err) // an error is fine, a panic is not
			}
		}
		pass()
		machines := &karpenterv1alpha5.MachineList{}
		require.NoError(t, store.List(context.Background(), machines))
		for i := range machines.Items {
			play(t, store, &machines.Items[i])
		}
		pass()
		job := &tuningv1alpha1.TuningJob{}
		if store.Get(context.Background(), key, job) == nil {
			job.Status.Conditions = []metav1.Condition{
				{
					Type:               tuningv1alpha1.ConditionSucceeded,
					Status:             metav1.ConditionTrue,
					Reason:             "Succeeded",
					LastTransitionTime: metav1.Now(),
				},
			}
			if rapid.Bool().Draw(t, "has an output") {
				job.Status.Output = &tuningv1alpha1.Output{Image: "i@sha256:1"}
			}
			require.NoError(t, store.Status().Update(context.Background(), job))
		}
		pass()
		pass()
		if store.Get(context.Background(), key, w) == nil {
			require.NoError(t, client.IgnoreNotFound(store.Delete(context.Background(), w)))
		}
		pass()
		pass()
	})
}

// play has a Machine's node join, or fail.
func play(t *rapid.T, store client.Client, m *karpenterv1alpha5.Machine) {
	status := corev1.ConditionTrue
	if rapid.Bool().Draw(t, "fails") {
		status = corev1.ConditionFalse
	}
	for _, c := range []string{karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ConditionMachineInitialized, karpenterv1alpha5.ConditionReady} {
		m.Status.Conditions = append(
			m.Status.Conditions,
			karpenterv1alpha5.Condition{Type: c, Status: status, Reason: "Because", LastTransitionTime: metav1.Now()},
		)
	}
	m.Status.NodeName = "n-" + m.Name
	require.NoError(t, store.Status().Update(context.Background(), m))
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.Status.NodeName, Labels: m.Labels}, Status: corev1.NodeStatus{
		Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		Allocatable: m.Spec.Resources.Requests,
	}}
	require.NoError(t, store.Create(context.Background(), n))
}
