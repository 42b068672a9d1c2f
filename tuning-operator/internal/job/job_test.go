// SPDX-License-Identifier: Apache-2.0

package job_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"kaito.sh/shared/api/embedded"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/training"
)

var update = flag.Bool("update", false, "write the golden files")

// seed returns the TuningJob of the quick start.
func seed() *tuningv1alpha1.TuningJob {
	return &tuningv1alpha1.TuningJob{
		ObjectMeta: metav1.ObjectMeta{Name: "workspace-tuning-phi-3", Namespace: "default"},
		Spec: tuningv1alpha1.TuningJobSpec{
			Model:  tuningv1alpha1.ModelSpec{Preset: "phi-3-mini-128k-instruct"},
			Method: "qlora",
			Input: tuningv1alpha1.Source{
				URLs: []string{
					"https://huggingface.co/datasets/philschmid/dolly-15k-oai-style/resolve/main/data/train-00000-of-00001-54e3756291ca09c6.parquet?download=true",
				},
			},
			Output: tuningv1alpha1.Destination{Image: "registry.example/adapter:0.0.1", ImagePushSecret: "acr"},
			Resources: tuningv1alpha1.ResourcesSpec{
				InstanceType: "Standard_NC6s_v3", NodeSelector: map[string]string{"app": "tuning-phi-3"},
			},
		},
	}
}

func input(t *testing.T, tj *tuningv1alpha1.TuningJob, claim bool) job.Input {
	t.Helper()
	config, err := training.Parse(string(tj.Spec.Method), "", nil)
	require.NoError(t, err)
	return job.Input{
		TuningJob: tj,
		Model:     job.Model{ID: "microsoft/Phi-3-mini-128k-instruct", Revision: "0123456789abcdef0123456789abcdef01234567"},
		Config:    config,
		Claim:     job.Claim{Make: claim},
		Options: job.Options{
			RunnerImage:    "example.com/runner:1",
			TrainerImage:   "example.com/trainer:1",
			CheckpointSize: "20Gi",
		},
	}
}

// everything returns a TuningJob with all fields that change the pod.
func everything() *tuningv1alpha1.TuningJob {
	tj := seed()
	tj.Labels = map[string]string{job.LabelQueue: "gpus", "kueue.x-k8s.io/priority-class": "high", "other": "not copied"}
	tj.Spec.Model = tuningv1alpha1.ModelSpec{
		ID:           "org/model",
		AccessSecret: "hf",
		Source: &tuningv1alpha1.ModelSource{
			Image:            "registry.example/model:1",
			ImagePullSecrets: []string{"pull-b", "pull-a"},
		},
	}
	tj.Spec.Input = tuningv1alpha1.Source{Image: "registry.example/data:1", ImagePullSecrets: []string{"pull-a"}}
	tj.Spec.Output = tuningv1alpha1.Destination{
		VolumeSource: embedded.NewVolumeSource(
			corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "results"}},
		),
	}
	tj.Spec.Resources = tuningv1alpha1.ResourcesSpec{
		Nodes:       ptr.To[int32](2),
		GPUsPerNode: ptr.To[int32](8),
		Tolerations: []corev1.Toleration{{Key: "spot", Operator: corev1.TolerationOpExists}},
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("40"),
			corev1.ResourceMemory: resource.MustParse("400Gi"),
		},
	}
	tj.Spec.Checkpoint = tuningv1alpha1.CheckpointSpec{
		EverySteps: ptr.To[int32](25),
		Keep:       ptr.To[int32](5),
		VolumeSource: embedded.NewVolumeSource(
			corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "rwx"}},
		),
	}
	tj.Spec.BackoffLimit = ptr.To[int32](1)
	tj.Spec.ActiveDeadlineSeconds = ptr.To[int64](3600)
	return tj
}

func volumes() *tuningv1alpha1.TuningJob {
	tj := seed()
	source := func(name string) *embedded.VolumeSource {
		return embedded.NewVolumeSource(
			corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}},
		)
	}
	tj.Spec.Method = "lora"
	tj.Spec.Model.Source = &tuningv1alpha1.ModelSource{VolumeSource: source("weights")}
	tj.Spec.Input = tuningv1alpha1.Source{VolumeSource: source("data")}
	tj.Spec.Output = tuningv1alpha1.Destination{Image: "registry.example/adapter:1"}
	tj.Spec.Resources = tuningv1alpha1.ResourcesSpec{GPUsPerNode: ptr.To[int32](0)}
	return tj
}

func hub() *tuningv1alpha1.TuningJob {
	tj := seed()
	tj.Spec.Model.AccessSecret = "hf"
	tj.Spec.Input = tuningv1alpha1.Source{Dataset: "org/data@v2"}
	tj.Spec.Resources = tuningv1alpha1.ResourcesSpec{GPUsPerNode: ptr.To[int32](4)}
	return tj
}

// mirrored sets a mirror of the sources with its own certificate authority.
func mirrored(in job.Input) job.Input {
	in.Options.ModelHub, in.Options.Authorities = "https://hub.example", "authorities"
	return in
}

func render(t require.TestingT, in job.Input) string {
	objects, err := job.Build(in)
	require.NoError(t, err)
	var out bytes.Buffer
	for _, o := range []any{objects.Job, objects.Policy, objects.Service, objects.Claim} {
		raw, err := yaml.Marshal(o)
		require.NoError(t, err)
		if s := string(raw); s != "null\n" {
			fmt.Fprintf(&out, "---\n%s", s)
		}
	}
	return out.String()
}

func TestGolden(t *testing.T) {
	for name, in := range map[string]job.Input{
		"seed":       input(t, seed(), true),
		"everything": mirrored(input(t, everything(), true)),
		"volumes":    input(t, volumes(), false),
		"hub":        input(t, hub(), false),
	} {
		t.Run(name, func(t *testing.T) {
			got := render(t, in)
			if in.TuningJob.Spec.Output.Image != "" {
				asks, err := yaml.Marshal(job.ResultJob(in.TuningJob, in.Options))
				require.NoError(t, err)
				got += "---\n" + string(asks)
			}
			path := filepath.Join("testdata", name+".yaml")
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
}

func TestBuildIsDeterministic(t *testing.T) {
	first := render(t, input(t, everything(), true))
	for range 200 {
		require.Equal(t, first, render(t, input(t, everything(), true)))
	}
}

func TestPodsTolerateGPUTaints(t *testing.T) {
	objects, err := job.Build(input(t, seed(), true))
	require.NoError(t, err)
	tolerations := objects.Job.Spec.Template.Spec.Tolerations
	for key, value := range map[string]string{
		"sku": "gpu", "kubernetes.azure.com/scalesetpriority": "spot", "nvidia.com/gpu": "present",
	} {
		taint := &corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffectNoSchedule}
		tolerated := slices.ContainsFunc(tolerations, func(o corev1.Toleration) bool {
			return o.ToleratesTaint(log.FromContext(t.Context()), taint, false)
		})
		assert.True(t, tolerated, key)
	}
}

func TestBuildDoesNotChangeItsInput(t *testing.T) {
	tj := everything()
	before := tj.DeepCopy()
	objects, err := job.Build(input(t, tj, true))
	require.NoError(t, err)
	objects.Job.Spec.Template.Spec.Tolerations[1].Key = "changed"
	objects.Job.Spec.Template.Spec.Volumes[0].Name = "changed"
	assert.Equal(t, before, tj)
}

func TestContainersAreHardened(t *testing.T) {
	for name, tj := range map[string]*tuningv1alpha1.TuningJob{"seed": seed(), "everything": everything(), "volumes": volumes(), "hub": hub()} {
		t.Run(name, func(t *testing.T) {
			objects, err := job.Build(input(t, tj, true))
			require.NoError(t, err)
			spec := objects.Job.Spec.Template.Spec
			assert.False(t, *spec.AutomountServiceAccountToken)
			assert.True(t, *spec.SecurityContext.RunAsNonRoot)
			for _, c := range append(spec.InitContainers, spec.Containers...) {
				assert.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, c.Name)
				assert.False(t, *c.SecurityContext.AllowPrivilegeEscalation, c.Name)
				assert.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop, c.Name)
				_, gpu := c.Resources.Limits["nvidia.com/gpu"]
				assert.Equal(t, c.Name == job.Train && name != "volumes", gpu, "%s: only the trainer has GPUs", c.Name)
				if c.Name != job.Train {
					continue
				}
				for _, e := range c.Env {
					assert.Nil(t, e.ValueFrom, "the trainer runs a user's model code: no secret is given to it (%s)", e.Name)
				}
				for _, m := range c.VolumeMounts {
					assert.NotContains(t, m.MountPath, "/credentials")
				}
			}
		})
	}
}

func TestUserTextIsNotExpanded(t *testing.T) {
	tj := seed()
	tj.Spec.Model.AccessSecret = "hf"
	tj.Spec.Input.URLs = []string{"https://example.com/$(HF_TOKEN)", "https://example.com/$$(HF_TOKEN)"}
	tj.Spec.Output.Image = "registry.example/$(HF_TOKEN):1"
	in := input(t, tj, true)
	in.Config.ChatTemplate = "$(HOME)"
	objects, err := job.Build(in)
	require.NoError(t, err)
	spec := objects.Job.Spec.Template.Spec
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		for _, text := range append(append([]string{}, c.Args...), envValues(c)...) {
			assert.NotContains(t, strings.ReplaceAll(text, "$$", ""), "$(", c.Name)
		}
	}
	assert.Contains(
		t,
		spec.InitContainers[0].Args,
		"--dataset-url=https://example.com/$$(HF_TOKEN)",
		"the kubelet turns it back into $(",
	)
}

func envValues(c corev1.Container) (out []string) {
	for _, e := range c.Env {
		out = append(out, e.Value)
	}
	return out
}

func TestFetchIsLimitedToTheRequestedDisk(t *testing.T) {
	for asked, want := range map[string]string{"": "--max-bytes=2199023255552", "300Gi": "--max-bytes=322122547200", "5G": "--max-bytes=5000000000"} {
		in := input(t, seed(), false)
		if asked != "" {
			in.TuningJob.Spec.Resources.Requests = corev1.ResourceList{
				corev1.ResourceEphemeralStorage: resource.MustParse(asked),
			}
		}
		objects, err := job.Build(in)
		require.NoError(t, err)
		pod := objects.Job.Spec.Template.Spec
		assert.Contains(t, pod.InitContainers[0].Args, want)
		got := pod.InitContainers[1].Resources.Requests[corev1.ResourceEphemeralStorage]
		assert.Equal(t, asked != "", got.Sign() > 0, "what is asked for is also reserved on the node")
	}
}
