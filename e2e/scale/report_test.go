// SPDX-License-Identifier: Apache-2.0

package scale_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// measured is what one phase cost.
type measured struct {
	name      string
	pools     int
	calls     map[string]int
	throttled int
	wall      time.Duration // real
}

func (m measured) total() int {
	n := 0
	for _, calls := range m.calls {
		n += calls
	}
	return n
}

func (m measured) perNode() float64 { return float64(m.total()) / float64(*number) }

func (m measured) simulated() time.Duration {
	return time.Duration(float64(m.wall) * *speed).Round(time.Second)
}

// The reference is Azure/gpu-provisioner, by its source:
//
//   - one agent pool of count 1 for each node: newAgentPoolObject in pkg/providers/instance/instance.go;
//   - a write is one call, then the worker waits: BeginCreateOrUpdate and PollUntilDone(ctx, nil), BeginDelete and PollUntilDone(ctx, nil), in
//     createAgentPool and deleteAgentPool of pkg/providers/instance/armutils.go;
//   - PollUntilDone without options looks every 30 s where the answer has no Retry-After (sdk/azcore/runtime/poller.go), and a PUT reads its
//     result at the end;
//   - AKS allows 100 agent pools in a cluster (https://learn.microsoft.com/azure/aks/quotas-skus-regions).
//
// What its controllers read besides is left out: the figures are the least that it can cost.
const (
	referenceMaxPools  = 100
	referencePollEvery = 30 * time.Second
)

func referenceCreateCalls() int {
	return 1 + int(durations.CreatePool/referencePollEvery) + 1
}

func referenceDeleteCalls() int { return 1 + int(durations.DeletePool/referencePollEvery) }

// report is the table that `make scale` prints.
func report(phases []measured) string {
	var b strings.Builder
	verbs := map[string]bool{}
	for _, m := range phases {
		for verb := range m.calls {
			verbs[verb] = true
		}
	}
	fmt.Fprintf(&b, "%d Machines, operations of %s, at %g times real time\n", *number, durations.CreatePool, *speed)
	row := func(name string, cell func(measured) string) {
		fmt.Fprintf(&b, "%-28s", name)
		for _, m := range phases {
			fmt.Fprintf(&b, "%22s", cell(m))
		}
		b.WriteString("\n")
	}
	row("", func(m measured) string { return m.name })
	for _, verb := range slices.Sorted(maps.Keys(verbs)) {
		row("  "+verb, func(m measured) string { return fmt.Sprint(m.calls[verb]) })
	}
	row("ARM calls", func(m measured) string { return fmt.Sprint(m.total()) })
	row("ARM calls a node", func(m measured) string { return fmt.Sprintf("%.2f", m.perNode()) })
	row("429, each waited out", func(m measured) string { return fmt.Sprint(m.throttled) })
	row("agent pools", func(m measured) string { return fmt.Sprint(m.pools) })
	row("simulated time", func(m measured) string { return m.simulated().String() })
	row("real time", func(m measured) string { return m.wall.Round(time.Second).String() })
	fmt.Fprintf(&b, "\nAzure/gpu-provisioner, by its source: %d agent pools", *number)
	if *number > referenceMaxPools {
		fmt.Fprintf(
			&b, ", of which AKS allows %d: %d of the %d nodes cannot be made", referenceMaxPools, *number-referenceMaxPools,
			*number,
		)
	}
	fmt.Fprintf(
		&b, "; at least %d ARM calls a node to make it, %d to delete it\n", referenceCreateCalls(), referenceDeleteCalls(),
	)
	return b.String()
}
