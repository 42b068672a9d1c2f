// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

// TestTheCheapestPlanOfEachModel shows in a change's diff what a model costs then, for users who name no size.
func TestTheCheapestPlanOfEachModel(t *testing.T) {
	t.Parallel()
	c := load(t)
	var out strings.Builder
	out.WriteString("# model, nodes, size, parallelism tensor.pipeline.data, dollars an hour, tokens\n")
	for _, m := range c.Models() {
		p, err := plan.Make(inference(m.ID), c, vllm.Engine{})
		if err != nil {
			_, _ = fmt.Fprintf(&out, "%-50s none\n", m.ID)
			continue
		}
		_, _ = fmt.Fprintf(
			&out, "%-50s %d × %-28s %d.%d.%d %7.2f %7d\n", m.ID, p.Nodes, p.Size.Name, p.TensorParallel, p.PipelineParallel,
			p.DataParallel, p.CostPerHour, p.MaxModelLen,
		)
	}
	file := filepath.Join("testdata", "cheapest.golden")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run go test -update")
	assert.Equal(t, string(want), out.String(), "look at the change, then run go test -update")
}
