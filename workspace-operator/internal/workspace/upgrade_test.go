// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/conditions"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/scheme"
)

// What testdata/upgrade holds was written by the build that was released last. -released writes it anew, which is right
// only when a release is made: a difference before means that an upgrade would roll what serves.
var released = flag.Bool("released", false, "write testdata/upgrade anew, as this build leaves objects behind")

const upgradeDir = "testdata/upgrade"

// upgraded are Workspaces of all shapes that serve.
func upgraded() map[string]*kaitov1alpha1.Workspace {
	base := func(name string) *kaitov1alpha1.Workspace {
		return &kaitov1alpha1.Workspace{
			TypeMeta: metav1.TypeMeta{APIVersion: kaitov1alpha1.GroupVersion.String(), Kind: "Workspace"},
			ObjectMeta: metav1.ObjectMeta{
				Name:       name,
				Namespace:  "ns",
				UID:        "6b1f7a52-0000-4000-8000-000000000000",
				Generation: 1,
			},
			Resource:  kaitov1alpha1.ResourceSpec{InstanceType: "Standard_NC24ads_A100_v4"},
			Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"}},
		}
	}
	out := map[string]*kaitov1alpha1.Workspace{
		"plain":    base("plain"),
		"adapters": base("adapters"),
		"several":  base("several"),
		"template": base("template"),
		"tuned":    base("tuned"),
	}
	out["adapters"].Inference.Config = "inference"
	out["adapters"].Inference.Adapters = []kaitov1alpha1.AdapterSpec{
		{Source: &kaitov1alpha1.DataSource{Name: "style", Image: "registry.example.com/style:1"}},
	}
	out["several"].Inference.Preset.Name = "llama-3.3-70b-instruct"
	out["several"].Resource.Count = ptr.To[int32](4)
	out["template"].Inference = &kaitov1alpha1.InferenceSpec{
		Template: embedded.NewPodTemplate(
			corev1.PodTemplateSpec{
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "mine", Image: "example.com/mine:1"}}},
			},
		),
	}
	out["tuned"].Inference = nil
	out["tuned"].Tuning = &kaitov1alpha1.TuningSpec{
		Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"},
		Method: kaitov1alpha1.MethodLora,
		Input: &kaitov1alpha1.DataSource{
			URLs: []string{"https://example.com/train.parquet"},
		},
		Output: &kaitov1alpha1.DataDestination{Image: "registry.example.com/adapter:1"},
	}
	return out
}

// upgradeClock is the same in both builds.
func upgradeClock() *clocktesting.FakePassiveClock {
	return clocktesting.NewFakePassiveClock(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
}

// upgradeReconciler keeps no status back: a write that it would save is seen.
func upgradeReconciler(t *testing.T, store client.Client, options Options) *Reconciler {
	t.Helper()
	options.StatusHold = 0
	return reconcilerAt(t, store, options, upgradeClock())
}

func reconcilerAt(t *testing.T, store client.Client, options Options, now clock.PassiveClock) *Reconciler {
	t.Helper()
	c, err := catalog.Load()
	require.NoError(t, err)
	r, err := New(Config{
		Client: store, Live: store, Kinds: allServed{}, Secrets: allThere{}, Catalog: c, Engine: vllm.Engine{},
		Events: events.NewFakeRecorder(1000), Clock: now, Options: options,
	})
	require.NoError(t, err)
	return r
}

func upgradeStore(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme, err := scheme.New()
	require.NoError(t, err)
	return Indexed(fake.NewClientBuilder().WithScheme(scheme)).
		WithStatusSubresource(&kaitov1alpha1.Workspace{}, &karpenterv1alpha5.Machine{}, &tuningv1alpha1.TuningJob{}, &appsv1.Deployment{}, &appsv1.StatefulSet{}).
		WithObjects(objects...).Build()
}

func upgradeConfig() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "inference", Namespace: "ns"},
		Data:       map[string]string{keyInferenceConfig: "vllm: {max-num-seqs: 8}"},
	}
}

func TestUpgradeDoesNotRewriteObjectsOfTheLastRelease(t *testing.T) {
	t.Parallel()
	for name, w := range upgraded() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(upgradeDir, name+".yaml")
			if *released {
				leaveBehind(t, w, path)
			}
			objects := readObjects(t, path)
			var writes []string
			note := func(verb string, obj any) { writes = append(writes, verb+" "+writtenKind(obj)) }
			counted := interceptor.NewClient(upgradeStore(t, append(objects, upgradeConfig())...), interceptor.Funcs{
				Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
					note("create", o)
					return nil
				},
				Delete: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.DeleteOption) error {
					note("delete", o)
					return nil
				},
				Patch: func(_ context.Context, _ client.WithWatch, o client.Object, _ client.Patch, _ ...client.PatchOption) error {
					note("patch", o)
					return nil
				},
				Apply: func(_ context.Context, _ client.WithWatch, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
					note("apply", o)
					return nil
				},
				SubResourcePatch: func(_ context.Context, _ client.Client, sub string, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
					data, err := p.Data(o)
					note("patch "+sub+" "+string(data), o)
					return err
				},
			})
			next := DefaultOptions()
			next.Images.Gateway, next.Images.Runner = "gateway:next", "runner:next"
			r := upgradeReconciler(t, counted, next)
			for range 2 {
				_, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(w)})
				require.NoError(t, err)
			}
			// A server without a policy gets one, and keeps its pods. The fake client can't apply the kind, so it is tried at
			// each pass.
			writes = slices.DeleteFunc(writes, func(write string) bool { return write == "apply NetworkPolicy" })
			assert.Empty(t, writes)
		})
	}
}

func writtenKind(obj any) string {
	if u, ok := obj.(interface{ GetKind() string }); ok {
		return u.GetKind()
	}
	if o, ok := obj.(client.Object); ok {
		return o.GetName()
	}
	return "?"
}

// leaveBehind brings a Workspace to Ready, and writes down all that there is of it.
func leaveBehind(t *testing.T, w *kaitov1alpha1.Workspace, path string) {
	t.Helper()
	store := interceptor.NewClient(upgradeStore(t, w, upgradeConfig()), interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if writtenKind(o) == "NetworkPolicy" {
				return nil // the fake client can't apply this kind; nothing reads it
			}
			return c.Apply(ctx, o, opts...)
		},
	})
	r := upgradeReconciler(t, store, DefaultOptions())
	key := client.ObjectKeyFromObject(w)
	pass := func() {
		t.Helper()
		_, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key})
		require.NoError(t, err)
	}
	now := metav1.NewTime(upgradeClock().Now())
	pass()
	machines := &karpenterv1alpha5.MachineList{}
	require.NoError(t, store.List(t.Context(), machines))
	require.NoError(t, store.Get(t.Context(), key, w))
	require.NotEmpty(t, machines.Items, "%+v", w.Status.Conditions)
	for i := range machines.Items {
		m := &machines.Items[i]
		for _, c := range []string{karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ConditionMachineInitialized, karpenterv1alpha5.ConditionReady} {
			m.Status.Conditions = append(
				m.Status.Conditions,
				karpenterv1alpha5.Condition{Type: c, Status: corev1.ConditionTrue, Reason: c, LastTransitionTime: now},
			)
		}
		m.Status.NodeName = "n-" + m.Name
		require.NoError(t, store.Status().Update(t.Context(), m))
		require.NoError(
			t,
			store.Create(
				t.Context(),
				&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.Status.NodeName, Labels: m.Labels}, Status: corev1.NodeStatus{
					Conditions: []corev1.NodeCondition{
						{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
					},
					Allocatable: m.Spec.Resources.Requests,
				}},
			),
		)
	}
	pass()
	job := &tuningv1alpha1.TuningJob{}
	if store.Get(t.Context(), key, job) == nil {
		job.Status.Conditions = []metav1.Condition{
			{
				Type:               tuningv1alpha1.ConditionSucceeded,
				Status:             metav1.ConditionTrue,
				Reason:             "Succeeded",
				LastTransitionTime: now,
			},
		}
		job.Status.Output = &tuningv1alpha1.Output{
			Image:  "registry.example.com/adapter@sha256:1111111111111111111111111111111111111111111111111111111111111111",
			Digest: "sha256:1111111111111111111111111111111111111111111111111111111111111111",
		}
		require.NoError(t, store.Status().Update(t.Context(), job))
		pass()
		pass()
	}
	deployment, set := &appsv1.Deployment{}, &appsv1.StatefulSet{}
	if store.Get(t.Context(), key, deployment) == nil {
		deployment.Status = appsv1.DeploymentStatus{
			ObservedGeneration: deployment.Generation,
			Replicas:           1,
			UpdatedReplicas:    1,
			ReadyReplicas:      1,
			AvailableReplicas:  1,
		}
		require.NoError(t, store.Status().Update(t.Context(), deployment))
	}
	if store.Get(t.Context(), key, set) == nil {
		set.Status = appsv1.StatefulSetStatus{
			ObservedGeneration: set.Generation,
			Replicas:           *set.Spec.Replicas,
			UpdatedReplicas:    *set.Spec.Replicas,
			ReadyReplicas:      1,
		}
		require.NoError(t, store.Status().Update(t.Context(), set))
	}
	pass()
	require.NoError(t, store.Get(t.Context(), key, w))
	require.True(t, conditions.IsTrue(w, conditions.Ready), "%+v", w.Status)
	writeObjects(t, store, path)
}

func writeObjects(t *testing.T, store client.Client, path string) {
	t.Helper()
	var out bytes.Buffer
	for _, list := range []client.ObjectList{
		&kaitov1alpha1.WorkspaceList{}, &karpenterv1alpha5.MachineList{}, placement.NodeClaims{}.List(), &tuningv1alpha1.TuningJobList{},
		&corev1.NodeList{}, &corev1.ServiceList{}, &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &policyv1.PodDisruptionBudgetList{},
	} {
		require.NoError(t, store.List(t.Context(), list))
		raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(list)
		require.NoError(t, err)
		items, _ := raw["items"].([]any)
		for _, item := range items {
			object, ok := item.(map[string]any)
			require.True(t, ok)
			gvk, err := store.GroupVersionKindFor(list)
			require.NoError(t, err)
			object["apiVersion"], object["kind"] = gvk.GroupVersion().String(), gvk.Kind[:len(gvk.Kind)-len("List")]
			if metadata, ok := object["metadata"].(map[string]any); ok {
				delete(metadata, "managedFields")
				delete(metadata, "resourceVersion")
				delete(metadata, "creationTimestamp")
			}
			text, err := yaml.Marshal(object)
			require.NoError(t, err)
			out.WriteString("---\n")
			out.Write(text)
		}
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o644))
}

func readObjects(t *testing.T, path string) []client.Object {
	t.Helper()
	raw, err := os.ReadFile(path) //nolint:gosec // a fixture
	require.NoError(t, err, "-released writes it")
	scheme, err := scheme.New()
	require.NoError(t, err)
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	var out []client.Object
	for _, document := range bytes.Split(raw, []byte("---\n"))[1:] {
		decoded, _, err := decoder.Decode(document, nil, nil)
		require.NoError(t, err)
		object, ok := decoded.(client.Object)
		require.True(t, ok)
		out = append(out, object)
	}
	return out
}
