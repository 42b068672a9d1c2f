// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	quickStartFile = "../../../examples/fine-tuning/kaito_workspace_tuning_phi_3.yaml"
	corpus         = "../../../shared/test/corpus/testdata/valid"
)

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run go test -update")
	assert.Equal(t, string(want), got, "look at the change, then run go test -update")
}

func TestThePlanIsATableOfCandidatesWithTheirArithmetic(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args string
		code int
	}{
		"plan-all-sizes.txt":      {"plan llama-3.3-70b-instruct --spot --region eastus --context-length 65536", 0},
		"plan-fallbacks-wide.txt": {"plan phi-4-mini-instruct --instance-type Standard_NC24ads_A100_v4,Standard_NC6s_v3 --capacity-type spot,on-demand -o wide", 0},
		"plan-nothing-fits.txt":   {"plan deepseek-r1-0528 --instance-type Standard_NC24ads_A100_v4 --count 2", 1},
		"plan-quick-start.txt":    {"plan -f " + quickStartFile, 0},
		"plan-mig.txt":            {"plan phi-4-mini-instruct --mig-profile 3g.40gb", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := offline(t, nil, strings.Fields(test.args)...)
			assert.Equal(t, test.code, r.code, r.errOut)
			assert.NotContains(t, r.errOut, "error")
			golden(t, name, r.out)
		})
	}
}

// answer is the JSON of plan, as far as tests read it.
type answer struct {
	Workspace, Stage, Model, Revision, Reason, Message string
	Feasible                                           bool
	Notes                                              []string
	Chosen                                             *candidate
	Candidates                                         []candidate
}

type candidate struct {
	InstanceType, CapacityType, Dtype, EngineImage, Cause, Rejected string
	Nodes, GPUsPerNode, TensorParallel, PipelineParallel            int
	DataParallel, MaxModelLen                                       int
	CostPerHour                                                     *float64
	EngineArgs                                                      []string
	Memory                                                          struct{ WeightsGiB, KVCacheGiB, ActivationsGiB, FreeGiB, UsableGiB, OverheadGiB float64 }
}

func answers(t *testing.T, r result) []answer {
	t.Helper()
	var out []answer
	require.NoError(t, json.Unmarshal([]byte(r.out), &out), r.out+r.errOut)
	return out
}

func TestWhatPlanPrintsIsWhatTheControllerPlans(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(corpus, "*.yaml"))
	require.NoError(t, err)
	examples, err := filepath.Glob("../../../examples/*/*.yaml")
	require.NoError(t, err)
	files = append(files, examples...)
	require.Greater(t, len(files), 15)
	planned := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for i, document := range strings.Split("\n"+string(text), "\n---") {
			w := &kaitov1alpha1.Workspace{}
			require.NoError(t, yaml.Unmarshal([]byte(document), w), file)
			zero := w.Resource.Count != nil && *w.Resource.Count == 0
			if w.Kind != "Workspace" || w.Resource.Provisioning == kaitov1alpha1.ProvisioningNever || zero {
				continue // the controller looks at its nodes, or makes none
			}
			// Alone, since other documents' ConfigMaps are not what the question below has.
			one := filepath.Join(t.TempDir(), "workspace.yaml")
			require.NoError(t, os.WriteFile(one, []byte(document), 0o644))
			r := offline(t, nil, "plan", "-f", one, "-o", "json")
			require.NotEqual(t, 2, r.code, "%s, document %d: %s", file, i, r.errOut)
			for _, got := range answers(t, r) {
				planned++
				want, err := plan.Make(plan.ForWorkspace(w, got.Stage == "tune", "", "", ""), c, vllm.Engine{})
				if err != nil {
					assert.False(t, got.Feasible, file)
					assert.Equal(t, err.Error(), got.Reason+": "+got.Message, file)
					continue
				}
				if !assert.NotNil(t, got.Chosen, "%s: %s", file, got.Message) {
					continue
				}
				s := want.Status()
				assert.Equal(
					t,
					[]any{
						s.InstanceType,
						string(s.CapacityType),
						int(s.Nodes),
						int(s.GPUsPerNode),
						int(s.TensorParallel),
						int(s.PipelineParallel),
						int(s.DataParallel),
						int(s.MaxModelLen),
						s.DType,
						s.EngineImage,
					},
					[]any{
						got.Chosen.InstanceType,
						got.Chosen.CapacityType,
						got.Chosen.Nodes,
						got.Chosen.GPUsPerNode,
						got.Chosen.TensorParallel,
						got.Chosen.PipelineParallel,
						got.Chosen.DataParallel,
						got.Chosen.MaxModelLen,
						got.Chosen.Dtype,
						got.Chosen.EngineImage,
					},
					file,
				)
			}
		}
	}
	assert.Greater(t, planned, 15)
}

func TestTheMemoryTermsSumToTheDevice(t *testing.T) {
	t.Parallel()
	got := answers(t, offline(t, nil, "plan", "phi-4-mini-instruct", "-o", "json"))
	require.Len(t, got, 1)
	require.Greater(t, len(got[0].Candidates), 10)
	assert.Equal(t, *got[0].Chosen, got[0].Candidates[0], "the chosen candidate is first")
	last := 0.0
	for _, c := range got[0].Candidates[1:] {
		m := c.Memory
		assert.InDelta(t, m.UsableGiB, m.WeightsGiB+m.KVCacheGiB+m.ActivationsGiB+m.FreeGiB, 0.03, c.InstanceType)
		require.NotNil(t, c.CostPerHour, c.InstanceType)
		assert.GreaterOrEqual(t, *c.CostPerHour, last, "what else fits is ordered by price")
		last = *c.CostPerHour
	}
}

func TestPlanReadsTheFilesConfigMapAndFlagsOverrideIt(t *testing.T) {
	t.Parallel()
	const manifest = `
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: w}
resource: {instanceType: Standard_NC24ads_A100_v4}
inference: {preset: {name: phi-4-mini-instruct}, config: long}
`
	const config = `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: long}
data:
  inference_config.yaml: |
    vllm: {max_model_len: 4096}
`
	plan := func(manifest string, more ...string) answer {
		got := answers(
			t, offline(t, strings.NewReader(manifest), append([]string{"plan", "-f", "-", "-o", "json"}, more...)...),
		)
		require.Len(t, got, 1)
		require.NotNil(t, got[0].Chosen, got[0].Message)
		return got[0]
	}
	with := plan(manifest + config)
	assert.Equal(t, 4096, with.Chosen.MaxModelLen)
	assert.Empty(t, with.Notes)
	flag := plan(manifest+config, "--context-length", "8192")
	assert.Equal(t, 8192, flag.Chosen.MaxModelLen)
	without := plan(manifest)
	assert.Equal(t, 131072, without.Chosen.MaxModelLen)
	require.Len(t, without.Notes, 1)
	assert.Contains(t, without.Notes[0], "inference.config names the ConfigMap long")
}

func TestTuningIsPlannedWithWhatItServesAfterwards(t *testing.T) {
	t.Parallel()
	got := answers(
		t, offline(t, nil, "plan", "phi-4-mini-instruct", "--method", "QLoRA", "--max-seq-length", "1024", "-o", "json"),
	)
	require.Len(t, got, 2)
	assert.Equal(t, "tune", got[0].Stage)
	assert.Equal(t, 1024, got[0].Chosen.MaxModelLen)
	assert.Equal(t, "serve", got[1].Stage)
	alone := answers(t, offline(t, nil, "plan", "phi-4-mini-instruct", "--method", "qlora", "--serve=false", "-o", "json"))
	require.Len(t, alone, 1)
}

func TestWhatIsWrongWithAQuestionSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args string
		code int
		want string
	}{
		"no model":              {"plan", 2, "name a model, or a file"},
		"both":                  {"plan phi-4 -f " + quickStartFile, 2, "not both"},
		"a typing mistake":      {"plan phi-4-mimi-instruct", 1, "did you mean phi-4-mini-instruct"},
		"outside the catalogue": {"plan example/model", 2, "with --hub"},
		"a wrong size":          {"plan phi-4 --instance-type Standard_NC24ads_A100_v5", 1, "Standard_NC24ads_A100_v4"},
		"a wrong capacity":      {"plan phi-4 --capacity-type reserved", 2, "allowed: on-demand, spot"},
		"a wrong method":        {"plan phi-4 --method full", 2, "allowed: lora, qlora"},
		"a wrong output":        {"plan phi-4 -o xml", 2, "allowed: json, yaml, wide"},
		"an unknown flag":       {"plan phi-4 --gpu 3", 2, "kubectl kaito plan --help"},
		"no such file":          {"plan -f nowhere.yaml", 2, "nowhere.yaml"},
		"no Workspace in it":    {"plan -f ../../config/samples/kustomization.yaml", 2, "no Workspace"},
		"an unknown command":    {"plam", 2, "plam"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := offline(t, nil, strings.Fields(test.args)...)
			assert.Equal(t, test.code, r.code)
			assert.Contains(t, r.out+r.errOut, test.want)
		})
	}
}

func TestAMisspelledFieldIsNotPlannedAsIfItWereNotThere(t *testing.T) {
	t.Parallel()
	r := offline(
		t,
		strings.NewReader(
			"apiVersion: kaito.sh/v1alpha1\nkind: Workspace\nmetadata: {name: w}\nresource: {instancetype: X}\ninference: {preset: {name: phi-4}}\n",
		),
		"plan",
		"-f",
		"-",
	)
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.errOut, "instancetype")
}
