// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// result compares the rounds.
type result struct {
	floor, operator       measured // the median of each figure, the most of requests and memory, and all conflicts
	p50, p90, cpu, server float64  // medians of the rounds' ratios
}

func compare(floors, operators []measured) result {
	r := result{floor: sum(floors), operator: sum(operators)}
	of := func(figure func(measured) time.Duration) float64 {
		var ratios []float64
		for i := range floors {
			ratios = append(ratios, float64(figure(operators[i]))/float64(max(figure(floors[i]), time.Microsecond)))
		}
		return median(ratios)
	}
	r.p50 = of(func(m measured) time.Duration { return m.p50 })
	r.p90 = of(func(m measured) time.Duration { return m.p90 })
	r.cpu = of(func(m measured) time.Duration { return m.cpu })
	r.server = of(func(m measured) time.Duration { return m.server })
	return r
}

func sum(rounds []measured) measured {
	var p50, p90, cpu, server []time.Duration
	out := measured{}
	for _, m := range rounds {
		p50, p90, cpu, server = append(p50, m.p50), append(p90, m.p90), append(cpu, m.cpu), append(server, m.server)
		out.requests, out.memory = max(out.requests, m.requests), max(out.memory, m.memory)
		out.events = max(out.events, m.events)
		out.conflicts += m.conflicts
		out.status, out.deletion = m.status, m.deletion // of the last round
	}
	out.p50, out.p90, out.cpu, out.server = median(p50), median(p90), median(cpu), median(server)
	return out
}

func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

func (r result) String() string {
	row := func(name, f, o, ratio string) string { return fmt.Sprintf("%-24s %12s %12s %8s\n", name, f, o, ratio) }
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	number2 := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	f, o := r.floor, r.operator
	return fmt.Sprintf("%d Workspaces at once, limits %d/%d, %d rounds\n", *number, *qps, *burst, *rounds) +
		row("", "floor", "operator", "ratio") +
		row("requests a Workspace", number2(f.requests), number2(o.requests), number2(o.requests/f.requests)) +
		row("events a Workspace", number2(f.events), number2(o.events), "") +
		row("refused requests", fmt.Sprint(f.conflicts), fmt.Sprint(o.conflicts), "") +
		row("time to Ready, p50", ms(f.p50), ms(o.p50), number2(r.p50)) +
		row("time to Ready, p90", ms(f.p90), ms(o.p90), number2(r.p90)) +
		row("CPU a Workspace", ms(f.cpu), ms(o.cpu), number2(r.cpu)) +
		row("CPU of the API server", ms(f.server), ms(o.server), number2(r.server)) +
		row("bytes of status", fmt.Sprint(f.status), fmt.Sprint(o.status), "") +
		row("memory at most, MiB", fmt.Sprintf("%.0f", f.memory), fmt.Sprintf("%.0f", o.memory), number2(o.memory/f.memory)) +
		"the operator's deletion of a Workspace: " + o.deletion.String() + "\n"
}
