// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hardware is what of a size decides a plan; sizes that share it share a row.
func hardware(s catalog.Size) string {
	return fmt.Sprintf("%dx%s-%g", s.GPUs, s.GPUModel, s.MemoryGiB)
}

// table has every model on every kind of hardware: a row where it fits, and below which kinds it does not fit, and why.
func table(t *testing.T, c *catalog.Catalog, request func(model, size string) plan.Request) string {
	t.Helper()
	var out strings.Builder
	out.WriteString(
		"# model / hardware, nodes, parallelism tensor.pipeline.data, dtype, tokens, GiB a GPU: weights cache activations free\n",
	)
	for _, m := range c.Models() {
		_, _ = fmt.Fprintln(&out, m.ID)
		var fallen []string
		seen := map[string]string{}
		for _, s := range c.Sizes() {
			p, err := plan.Make(request(m.ID, s.Name), c, vllm.Engine{})
			row := ""
			if err == nil {
				g := func(bytes float64) float64 { return bytes / plan.GiB }
				row = fmt.Sprintf(
					"  %-12s %dn %d.%d.%d %-8s %7d %7.2f %6.2f %5.2f %6.2f", hardware(s), p.Nodes, p.TensorParallel,
					p.PipelineParallel, p.DataParallel, p.Dtype, p.MaxModelLen, g(p.Memory.Weights), g(p.Memory.KVCache),
					g(p.Memory.Activations), g(p.Memory.Free),
				)
			} else {
				row = hardware(s) + " " + cause(t, err)
			}
			if before, twice := seen[hardware(s)]; twice {
				assert.Equal(t, before, row, "%s on %s: the same hardware is planned alike", m.ID, s.Name)
				continue
			}
			seen[hardware(s)] = row
			if err == nil {
				_, _ = fmt.Fprintln(&out, row)
			} else {
				fallen = append(fallen, row)
			}
		}
		if len(fallen) == len(seen) && strings.HasSuffix(fallen[0], "Infeasible") {
			fallen = []string{"everywhere Infeasible"}
		}
		if len(fallen) > 0 {
			_, _ = fmt.Fprintln(&out, "  fell: "+strings.Join(fallen, ", "))
		}
	}
	return out.String()
}

// cause of the only candidate, or the refusal's reason where none was looked at.
func cause(t *testing.T, err error) string {
	t.Helper()
	var refusal *plan.Refusal
	require.ErrorAs(t, err, &refusal)
	if len(refusal.Candidates) != 1 {
		return refusal.Reason
	}
	require.NotEmpty(t, refusal.Candidates[0].Cause)
	return string(refusal.Candidates[0].Cause)
}

func TestEveryModelOnEverySizeIsPlannedAsBefore(t *testing.T) {
	t.Parallel()
	c := load(t)
	for name, request := range map[string]func(model, size string) plan.Request{
		"inference": func(model, size string) plan.Request { return inference(model, size) },
		"lora":      func(model, size string) plan.Request { return tuning("lora", model, size) },
		"qlora":     func(model, size string) plan.Request { return tuning("qlora", model, size) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join("testdata", name+".golden")
			got := table(t, c, request)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err, "run go test -update")
			if string(want) != got {
				t.Fatalf(
					"%s differs; look at the change, then run go test -update:\n%s", file, firstDifferences(string(want), got, 10),
				)
			}
		})
	}
}

func firstDifferences(want, got string, most int) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out []string
	for i := 0; i < max(len(a), len(b)) && len(out) < most; i++ {
		line := func(l []string) string {
			if i < len(l) {
				return l[i]
			}
			return "(nothing)"
		}
		if line(a) != line(b) {
			out = append(out, fmt.Sprintf("line %d\n- %s\n+ %s", i+1, line(a), line(b)))
		}
	}
	return strings.Join(out, "\n")
}
