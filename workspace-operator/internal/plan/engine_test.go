// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

var plans = flag.String("plans", "", "write every plan to this file, for hack/catalogue to ask the engine about")

// asked is what the engine is asked about a plan; bytes and tokens.
type asked struct {
	Model      string   `json:"model"`
	Hardware   string   `json:"hardware"`
	Capability string   `json:"capability"`
	DeviceGiB  float64  `json:"deviceGiB"`
	Release    string   `json:"release"`
	Nodes      int      `json:"nodes"`
	Tensor     int      `json:"tensor"`
	Pipeline   int      `json:"pipeline"`
	Data       int      `json:"data"`
	Tokens     int      `json:"tokens"`
	Adapters   int      `json:"adapters"`
	Weights    float64  `json:"weights"`
	Cache      float64  `json:"cache"`
	Free       float64  `json:"free"`
	Words      []string `json:"words"`
}

// every plan of the catalogue on each kind of hardware, with and without adapters.
func every(t *testing.T, c *catalog.Catalog) []asked {
	t.Helper()
	var out []asked
	for _, m := range c.Models() {
		seen := map[string]bool{}
		for _, s := range c.Sizes() {
			for _, adapters := range []int{0, 2} {
				key := hardware(s) + strings.Repeat("+", adapters)
				if seen[key] {
					continue
				}
				seen[key] = true
				request := inference(m.ID, s.Name)
				request.Adapters, request.AdapterRank = adapters, 16*min(adapters, 1)
				p, err := plan.Make(request, c, vllm.Engine{})
				var refusal *plan.Refusal
				if errors.As(err, &refusal) {
					continue
				}
				require.NoError(t, err)
				out = append(out, ask(p, adapters))
			}
		}
	}
	return out
}

func ask(p *plan.Plan, adapters int) asked {
	server := engine.Server{
		Model: "MODEL", Flags: p.Args, Names: []string{"w"}, Host: "127.0.0.1", Port: 5000, CacheDir: "/tmp",
		MaxLoraRank: p.AdapterRank,
	}
	for _, name := range []string{"first", "second"}[:adapters] {
		server.Adapters = append(server.Adapters, engine.Adapter{Name: name, Path: "/adapters/" + name})
	}
	command := vllm.Engine{}.Command(server)
	if p.Nodes > 1 {
		command = vllm.Engine{}.Ranked(command, engine.Ranks{Nodes: p.Nodes, Leader: "127.0.0.1", Port: 29500, Variable: "RANK"})
	}
	var words []string
	for _, word := range command.Args {
		words = append(words, strings.ReplaceAll(word, "$(RANK)", "0"))
	}
	return asked{
		Model: p.Model.ID, Hardware: hardware(p.Size), Capability: p.Size.Capability.String(), DeviceGiB: p.Size.DeviceGiB,
		Release: p.Engine.Version, Nodes: p.Nodes, Tensor: p.TensorParallel, Pipeline: p.PipelineParallel,
		Data: p.DataParallel, Tokens: p.MaxModelLen, Adapters: adapters, Weights: p.Memory.Weights, Cache: p.Memory.KVCache,
		Free: p.Memory.Free, Words: words,
	}
}

// answers are what the engine said about each plan, as hack/catalogue/plans.py wrote it.
func answers(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "engine.txt"))
	require.NoError(t, err, "run make catalogue TABLES=plans")
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "  ")
		if strings.HasPrefix(line, "#") || len(cells) < 7 {
			continue
		}
		out[strings.Join(cells[:6], "  ")] = cells[len(cells)-1]
	}
	return out
}

// compare finds each plan among those that the engine accepted, so that no plan changes without asking it.
func compare(t *testing.T, all []asked) {
	t.Helper()
	known := answers(t)
	for _, a := range all {
		if a.Release != "0.32.0" {
			continue
		}
		row := fmt.Sprintf(
			"%s  %s  %dn  %d.%d.%d  %d adapters  %d", a.Model, a.Hardware, a.Nodes, a.Tensor, a.Pipeline, a.Data, a.Adapters,
			a.Tokens,
		)
		assert.Contains(t, []string{"ok", "configured", "parsed"}, known[row], "%s: run make catalogue TABLES=plans", row)
	}
}

// TestPlansLeaveWhatTheyNeed: no plan takes more than the GPU has, and the engine accepts each.
func TestPlansLeaveWhatTheyNeed(t *testing.T) {
	t.Parallel()
	all := every(t, load(t))
	assert.Greater(t, len(all), 500)
	for _, a := range all {
		assert.Positive(t, a.Free, "%s on %s", a.Model, a.Hardware)
	}
	if *plans == "" {
		compare(t, all)
		return
	}
	file, err := os.Create(*plans)
	require.NoError(t, err)
	lines := json.NewEncoder(file)
	for _, a := range all {
		require.NoError(t, lines.Encode(a))
	}
	require.NoError(t, file.Close())
}
