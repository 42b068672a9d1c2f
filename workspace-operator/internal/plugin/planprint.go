// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strconv"
	"strings"
)

// printPlans writes the tables.
func (e *environment) printPlans(reports []planReport, wide bool) error {
	for i := range reports {
		if i > 0 {
			_, _ = fmt.Fprintln(e.Out) // a failing writer shows at the table's end
		}
		if err := e.printPlan(&reports[i], wide); err != nil {
			return err
		}
	}
	return nil
}

func (e *environment) printPlan(r *planReport, wide bool) error {
	p := paletteFor(e.Out)
	var head strings.Builder
	head.WriteString(r.title() + "\n")
	if r.Chosen != nil {
		head.WriteString(p.paint(green, "* "+r.Chosen.sentence()) + "\n")
	} else {
		head.WriteString(p.paint(red, r.Reason) + ": " + r.Message + "\n")
		if r.Reason != "" {
			head.WriteString("See " + kubectl + " explain " + r.Reason + "\n")
		}
	}
	for _, note := range r.Notes {
		head.WriteString(p.paint(yellow, "note") + ": " + note + "\n")
	}
	if _, err := fmt.Fprint(e.Out, head.String()); err != nil {
		return err
	}
	if err := e.printFeasible(r, wide); err != nil {
		return err
	}
	return e.printFallen(r, wide)
}

func (r *planReport) title() string {
	what := "serving "
	if r.Stage == stageTune {
		what = "tuning "
	}
	if r.Model == "" {
		what += "the pod template"
	}
	text := what + r.Model
	if r.Workspace != "" {
		text = "Workspace " + r.Workspace + ": " + text
	}
	return text
}

// prices says what the prices are.
func (r *planReport) prices() string {
	if r.PriceDate == "" {
		return ""
	}
	region := "the cheapest region"
	if r.Region != cheapestRegion {
		region = r.Region
	}
	return fmt.Sprintf(
		"; US dollars an hour for all nodes, list prices of %s in %s (spot costs at most that)", r.PriceDate, region,
	)
}

func (c *choice) sentence() string {
	parts := []string{fmt.Sprintf("%d × %s (%s, %s)", c.Nodes, c.InstanceType, c.GPU, c.CapacityType)}
	if c.CostPerHour != nil {
		parts = append(parts, "$"+usd(*c.CostPerHour)+" an hour")
	}
	if c.Dtype != "" {
		parts = append(parts, c.Dtype)
	}
	if c.MaxModelLen > 0 {
		parts = append(parts, fmt.Sprintf("%d tokens", c.MaxModelLen))
	}
	if m := c.Memory; m != nil {
		parts = append(
			parts,
			fmt.Sprintf("a GPU's %.1f GiB = weights %.1f + cache %.1f + activations %.1f + free %.1f + overhead %.1f",
				m.Device, m.Weights, m.KVCache, m.Activations, m.Free, m.Overhead),
		)
	}
	return strings.Join(parts, ", ")
}

func usd(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

func (e *environment) printFeasible(r *planReport, wide bool) error {
	headings := []string{
		"  SIZE",
		"CAPACITY",
		"GPUS",
		"NODES",
		"TP×PP×DP",
		"TOKENS",
		"WEIGHTS",
		"CACHE",
		"ACTIV",
		"FREE",
		"USD/H",
	}
	if wide {
		headings = append(headings, "DTYPE", "OVERHEAD", "DISK", "ENGINE", "IMAGE")
	}
	t := e.table(headings...)
	rows := 0
	for i := range r.Candidates {
		c := &r.Candidates[i]
		if c.Rejected != "" {
			continue
		}
		mark := "  "
		if c == r.Chosen {
			mark = "* "
		}
		t.row(
			append(
				[]string{mark + c.InstanceType, c.CapacityType, c.GPU, strconv.Itoa(c.Nodes), c.parallel(), count(c.MaxModelLen)},
				c.figures(wide)...)...)
		rows++
	}
	if rows == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(
		e.Out, "\n%d of %d choices fit. Memory in GiB of one GPU%s:\n", rows, len(r.Candidates), r.prices(),
	); err != nil {
		return err
	}
	return t.end()
}

func (c *choice) parallel() string {
	return fmt.Sprintf("%d×%d×%d", c.TensorParallel, c.PipelineParallel, c.DataParallel)
}

func (c *choice) figures(wide bool) []string {
	cells := []string{"-", "-", "-", "-"}
	overhead := "-"
	if m := c.Memory; m != nil {
		cells = []string{gib(m.Weights), gib(m.KVCache), gib(m.Activations), gib(m.Free)}
		overhead = gib(m.Overhead)
	}
	price := "-"
	if c.CostPerHour != nil {
		price = usd(*c.CostPerHour)
	}
	cells = append(cells, price)
	if wide {
		cells = append(cells, orDash(c.Dtype), overhead, count(c.DiskGiB), orDash(c.Engine), orDash(c.EngineImage))
	}
	return cells
}

func gib(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

func count(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printFallen lists what fell, the sizes that fell for the same reason on the same hardware together unless wide.
func (e *environment) printFallen(r *planReport, wide bool) error {
	var out strings.Builder
	rows := 0
	for _, group := range fallenGroups(r.Candidates, wide) {
		c := &group.first
		_, _ = fmt.Fprintf(
			&out, "  %s (%s, %s): %s\n      %s\n", strings.Join(group.names, ", "), orDash(c.GPU), c.CapacityType, c.Cause,
			c.Rejected,
		) // a builder does not fail
		rows += len(group.names)
	}
	if rows == 0 {
		return nil
	}
	_, err := fmt.Fprintf(e.Out, "\n%d of %d choices fell:\n%s", rows, len(r.Candidates), out.String())
	return err
}

type fallenGroup struct {
	names []string
	first choice
}

func fallenGroups(candidates []choice, apart bool) []*fallenGroup {
	var out []*fallenGroup
	for _, c := range candidates {
		if c.Rejected == "" {
			continue
		}
		var same *fallenGroup
		for _, g := range out {
			if !apart && g.first.GPU == c.GPU && g.first.CapacityType == c.CapacityType && g.first.Rejected == c.Rejected {
				same = g
			}
		}
		if same == nil {
			out = append(out, &fallenGroup{names: []string{c.InstanceType}, first: c})
			continue
		}
		same.names = append(same.names, c.InstanceType)
	}
	return out
}
