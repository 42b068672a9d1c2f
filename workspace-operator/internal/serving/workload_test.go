// SPDX-License-Identifier: Apache-2.0

package serving_test

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/serving"
)

var update = flag.Bool("update", false, "write the golden files anew")

func base() serving.Input {
	return serving.Input{
		Workspace: &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: "phi", Namespace: "ns"}},
		Labels: map[string]string{
			kaitov1alpha1.LabelWorkspaceName:      "phi",
			kaitov1alpha1.LabelWorkspaceNamespace: "ns",
			kaitov1alpha1.LabelWorkspaceUID:       "6b1f",
		},
		Owner:     metav1.OwnerReference{APIVersion: "kaito.sh/v1alpha1", Kind: "Workspace", Name: "phi", UID: "6b1f"},
		Hash:      "0123456789abcdef",
		Images:    serving.Images{Gateway: "example.com/gateway:1", Runner: "example.com/runner:1"},
		Placement: serving.Placement{Nodes: 1, Selector: map[string]string{kaitov1alpha1.LabelWorkspaceUID: "6b1f"}},
		Engine: serving.Engine{
			Software: vllm.Engine{},
			Image:    "example.com/vllm:1",
			Model:    "microsoft/Phi-3-mini-128k-instruct",
			Revision: "072cb75",
			Names:    []string{"phi-3-mini-128k-instruct", "microsoft/Phi-3-mini-128k-instruct"},
			Args: map[string][]string{
				"max-model-len":           {"4096"},
				"dtype":                   {"float16"},
				"tensor-parallel-size":    {"1"},
				"gpu-memory-utilization":  {"0.9"},
				"enable-auto-tool-choice": nil,
			},
			Env: map[string]string{
				"VLLM_USE_V1": "0",
			},
			GPUs:         1,
			CPUs:         3,
			MemoryGiB:    56,
			WeightsBytes: 7 << 30,
			MaxLoraRank:  16,
		},
	}
}

var cases = map[string]func(*serving.Input){
	"base-model": func(*serving.Input) {},
	"tuned": func(in *serving.Input) {
		in.Tuned = "phi"
		in.Adapters = []serving.Adapter{
			{Name: "phi", Image: "registry.example.com/adapter@sha256:0123", PullSecrets: []string{"push"}},
		}
	},
	"tuned-template": func(in *serving.Input) {
		in.Tuned, in.Engine.Completions = "phi", true
		in.Engine.Args.Set("chat-template", "/vllm-workspace/examples/template_falcon.jinja")
		in.Adapters = []serving.Adapter{
			{Name: "phi", Image: "registry.example.com/adapter@sha256:0123", ChatTemplate: true},
			{Name: "other", Image: "registry.example.com/other:1", ChatTemplate: true},
		}
	},
	"tuned-template-of-the-user": func(in *serving.Input) {
		in.Tuned, in.Engine.OwnTemplate = "phi", true
		in.Engine.Args.Set("chat-template", "/vllm-workspace/examples/template_falcon.jinja")
		in.Adapters = []serving.Adapter{{Name: "phi", Image: "registry.example.com/adapter@sha256:0123", ChatTemplate: true}}
	},
	"tuned-image-volume": func(in *serving.Input) {
		in.Tuned, in.ImageVolumes = "phi", true
		in.Adapters = []serving.Adapter{
			{Name: "phi", Image: "registry.example.com/adapter@sha256:0123", PullSecrets: []string{"push"}},
		}
	},
	"adapters-of-all-kinds": func(in *serving.Input) {
		in.Adapters = []serving.Adapter{
			{Name: "one", Image: "registry.example.com/one:1", PullSecrets: []string{"a", "b"}},
			{Name: "two", Image: "registry.example.com/two:1", PullSecrets: []string{"b"}},
			{
				Name: "three",
				Volume: &corev1.VolumeSource{
					PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "adapters"},
				},
			},
		}
		in.Engine.MaxLoraRank = 64
	},
	"several-gpus-gated-keys": func(in *serving.Input) {
		in.Engine.GPUs, in.Engine.Parallel, in.Engine.AccessSecret, in.APIKeySecret = 4, true, "token", "keys"
		in.Engine.WeightsBytes = 131 << 30
	},
	"weights-from-an-image": func(in *serving.Input) {
		in.Engine.WeightsImage, in.Engine.PullSecrets = "registry.example.com/weights:1", []string{"pull"}
	},
	"weights-from-an-artifact": func(in *serving.Input) {
		in.Engine.WeightsImage, in.Engine.WeightsArtifact, in.ImageVolumes = "registry.example.com/weights:1", true, true
	},
	"mirrored": func(in *serving.Input) {
		in.ModelHub, in.Authorities = "https://hub.example.com", "authorities"
		in.Adapters = []serving.Adapter{{Name: "one", Image: "registry.example.com/one:1"}}
	},
	"own-nodes": func(in *serving.Input) {
		in.Placement = serving.Placement{Nodes: 1, Names: []string{"node-b", "node-a"}}
	},
	"several-nodes": func(in *serving.Input) {
		in.Placement.Nodes, in.Engine.GPUs, in.Engine.Parallel = 2, 8, true
		in.Engine.Args.Set("tensor-parallel-size", "8")
		in.Engine.Args.Set("pipeline-parallel-size", "2")
	},
	"load-balancer": func(in *serving.Input) { in.Public, in.APIKeySecret = true, "keys" },
	"template": func(in *serving.Input) {
		in.Template = &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{
				Name:   "ignored",
				Labels: map[string]string{"app": "own", serving.LabelComponent: "own"},
			},
			Spec: corev1.PodSpec{
				Containers:   []corev1.Container{{Name: "server", Image: "example.com/server:1"}},
				NodeSelector: map[string]string{"zone": "1"},
				Tolerations:  []corev1.Toleration{{Key: "own", Operator: corev1.TolerationOpExists}},
				Affinity: &corev1.Affinity{
					NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
						NodeSelectorTerms: []corev1.NodeSelectorTerm{
							{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: corev1.NodeSelectorOpExists}}},
							{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "b", Operator: corev1.NodeSelectorOpExists}}},
						},
					}},
				},
			},
		}
		in.Placement = serving.Placement{Nodes: 1, Names: []string{"node-a"}}
	},
}

func render(t *testing.T, in serving.Input) string {
	t.Helper()
	objects := []any{serving.Deployment(in), serving.Service(in)}
	if in.Several() {
		objects = []any{serving.StatefulSet(in), serving.Service(in), serving.Peers(in), serving.DisruptionBudget(in)}
	}
	if in.Fenced() {
		objects = append(objects, serving.NetworkPolicy(in))
	}
	var out []string
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		require.NoError(t, err)
		out = append(out, string(text))
	}
	return strings.Join(out, "---\n")
}

func TestWorkloadsAreAsTheGoldenFilesSay(t *testing.T) {
	t.Parallel()
	for name, edit := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := base()
			edit(&in)
			got := render(t, in)
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644)) //nolint:gosec // a file of the repository
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, string(want), got, "go test ./internal/workload -update writes the files anew")
		})
	}
}

func TestTwoHundredRendersAreOneText(t *testing.T) {
	t.Parallel()
	for name, edit := range cases {
		in := base()
		edit(&in)
		first := render(t, in)
		for range 200 {
			in := base()
			edit(&in)
			require.Equal(t, first, render(t, in), name)
		}
	}
}

func TestTheUsersTemplateIsNotEdited(t *testing.T) {
	t.Parallel()
	in := base()
	cases["template"](&in)
	before := in.Template.DeepCopy()
	serving.Deployment(in)
	assert.Equal(t, before, in.Template, "it is the Workspace's own, and caches share it")
}

func TestTheEngineIsReachedThroughTheGatewayOnly(t *testing.T) {
	t.Parallel()
	for name, edit := range cases {
		in := base()
		edit(&in)
		if in.Template != nil {
			continue
		}
		pod := serving.Deployment(in).Spec.Template.Spec
		assert.Contains(t, pod.Containers[0].Args, "--host=127.0.0.1", name)
		assert.Empty(t, pod.Containers[0].Ports, name)
		for _, port := range serving.Service(in).Spec.Ports {
			assert.NotEqual(t, int32(8000), port.TargetPort.IntVal, name)
		}
	}
}

func TestUsersTextIsNotExpandedByTheKubelet(t *testing.T) {
	t.Parallel()
	const evil = "$(KUBERNETES_SERVICE_HOST)"
	for _, nodes := range []int32{1, 2} {
		in := base()
		in.Placement.Nodes = nodes
		in.Engine.Model, in.Engine.Revision = "owner/"+evil, evil
		in.Engine.Names = []string{evil}
		in.Engine.Args = map[string][]string{"chat-template": {evil}, "seed": {"$$(HF_TOKEN)"}, "allowed-media-domains": {evil, evil}}
		in.Engine.Env = map[string]string{"X": evil}
		in.ModelHub = "https://hub.example.com/" + evil
		in.Adapters = []serving.Adapter{{Name: evil, Image: "registry.example.com/" + evil}}
		in.Tuned = evil
		pod := serving.Deployment(in).Spec.Template.Spec
		if in.Several() {
			pod = serving.StatefulSet(in).Spec.Template.Spec
		}
		found := 0
		for _, c := range append(pod.InitContainers, pod.Containers...) {
			texts := append(append([]string{}, c.Command...), c.Args...)
			for _, e := range c.Env {
				texts = append(texts, e.Value)
			}
			for _, text := range texts {
				found += strings.Count(text, "$"+evil)
				if text == "--node-rank=$(NODE_RANK)" || text == "--rank=$(NODE_RANK)" {
					continue // ours
				}
				assert.NotContains(t, strings.ReplaceAll(text, "$$", ""), "$(", c.Name)
			}
		}
		assert.Equal(t, 13, found, "each text of the user's is there, escaped")
		assert.Contains(t, pod.Containers[0].Args, "--seed=$$$$(HF_TOKEN)")
	}
}

func TestLongNamesFitThePodsOfSeveralNodes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for length := 1; length <= 63; length++ {
		for _, last := range []string{"x", "y"} {
			in := base()
			in.Workspace.Name = strings.Repeat("a", length-1) + last
			in.Placement.Nodes = 100
			set, peers := serving.StatefulSet(in), serving.Peers(in)
			if length <= 52 {
				assert.Equal(t, in.Workspace.Name, set.Name, "an upgrade keeps the names that work")
			}
			assert.False(t, seen[set.Name], "%s is another Workspace's", set.Name)
			seen[set.Name] = true
			// The StatefulSet's controller labels pods with these.
			assert.Empty(t, validation.IsValidLabelValue(set.Name+"-"+strings.Repeat("f", 10)), "controller-revision-hash")
			assert.Empty(t, validation.IsValidLabelValue(set.Name+"-99"), "statefulset.kubernetes.io/pod-name")
			assert.Empty(t, validation.IsDNS1123Label(set.Name+"-99"), "a host name")
			assert.Empty(t, validation.IsDNS1035Label(peers.Name), "a Service")
			assert.Equal(t, peers.Name, set.Spec.ServiceName)
			assert.Contains(t, set.Spec.Template.Spec.Containers[0].Args, "--master-addr="+set.Name+"-0."+peers.Name+".ns.svc")
		}
	}
}

func TestOnlyTheGatewayIsReachableFromOtherPods(t *testing.T) {
	t.Parallel()
	for name, edit := range cases {
		in := base()
		edit(&in)
		assert.Equal(t, in.Template == nil, in.Fenced(), name)
	}
}

func TestAPublicAddressHasTheGatewaysPortOnly(t *testing.T) {
	t.Parallel()
	for name, edit := range cases {
		for _, public := range []bool{false, true} {
			in := base()
			edit(&in)
			in.Public = public
			var ports []int32
			for _, port := range serving.Service(in).Spec.Ports {
				ports = append(ports, port.Port)
				assert.NotEqual(t, int32(5001), port.TargetPort.IntVal, "%s: metrics are not for clients", name)
			}
			want := []int32{80, 29500}
			if public {
				want = []int32{80}
			}
			assert.Equal(t, want, ports, name)
		}
	}
}

func TestProbesAndHooksAskTheStatusPort(t *testing.T) {
	t.Parallel()
	for name, edit := range cases {
		in := base()
		edit(&in)
		if in.Template != nil {
			continue
		}
		pod := serving.Deployment(in).Spec.Template.Spec
		if in.Several() {
			pod = serving.StatefulSet(in).Spec.Template.Spec
		}
		engine, gateway := pod.Containers[0], pod.Containers[1]
		assert.Contains(t, gateway.Args, "--status-listen=:5001", name)
		for _, probe := range []*corev1.Probe{gateway.ReadinessProbe, gateway.LivenessProbe, engine.StartupProbe} {
			if probe != nil {
				assert.Equal(t, int32(5001), probe.HTTPGet.Port.IntVal, name)
			}
		}
		require.NotNil(t, engine.Lifecycle, "%s: the engine ends while the gateway drains", name)
		if in.Several() {
			assert.EqualValues(t, 60, engine.Lifecycle.PreStop.Sleep.Seconds, "no rank ends before rank 0 has drained")
			assert.Contains(t, gateway.Args, "--drain-timeout=60s")
		} else {
			assert.Equal(t, "/drained", engine.Lifecycle.PreStop.HTTPGet.Path, name)
			assert.Equal(t, int32(5001), engine.Lifecycle.PreStop.HTTPGet.Port.IntVal, name)
		}
		assert.Nil(t, gateway.Lifecycle, "the gateway begins at once")
		assert.Greater(t, *pod.TerminationGracePeriodSeconds, int64(60))
	}
}

func TestOurProgramsCollectBelowTheirLimits(t *testing.T) {
	t.Parallel()
	for name, edit := range cases {
		in := base()
		edit(&in)
		if in.Template != nil {
			continue
		}
		pod := serving.Deployment(in).Spec.Template.Spec
		for _, c := range append(pod.InitContainers, pod.Containers[1:]...) {
			limit := c.Resources.Limits.Memory().Value()
			found := false
			for _, e := range c.Env {
				if e.Name == "GOMEMLIMIT" {
					found = true
					set, err := strconv.ParseInt(e.Value, 10, 64)
					require.NoError(t, err, "bytes")
					assert.InDelta(t, 0.9, float64(set)/float64(limit), 0.001, "%s of %s", c.Name, name)
				}
			}
			assert.True(t, found, "%s of %s", c.Name, name)
		}
	}
}
