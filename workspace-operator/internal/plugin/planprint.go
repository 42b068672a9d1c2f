// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// printPlans writes the tables of the reports.
func (e *environment) printPlans(reports []planReport, wide bool) error {
	for i := range reports {
		if i > 0 {
			_, _ = fmt.Fprintln(e.Out) // table.end reports a failing writer
		}
		if err := e.printPlan(&reports[i], wide); err != nil {
			return err
		}
	}
	for i := range reports {
		if warning := oldPrices(reports[i].PriceDate, e.clock.Now()); warning != "" {
			_, _ = fmt.Fprintln(e.ErrOut, "warning: "+warning) // not part of the plan
			break
		}
	}
	return nil
}

// freshPrices is how long list prices are shown without a word about their age.
const freshPrices = 90 * 24 * time.Hour

// oldPrices says that the prices of a day, YYYY-MM-DD, are old; empty: they are not, or there are none.
func oldPrices(date string, now time.Time) string {
	day, err := time.Parse(time.DateOnly, date)
	if err != nil || now.Sub(day) <= freshPrices {
		return ""
	}
	return fmt.Sprintf(
		"the list prices are of %s, %d days ago: compare them with Azure's before you decide by them", date,
		int(now.Sub(day).Hours()/24),
	)
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
			head.WriteString("Run " + kubectl + " explain " + r.Reason + " for its runbook\n")
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
	return e.printRejected(r, wide)
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

// prices describes the prices: currency, date and region.
func (r *planReport) prices() string {
	if r.PriceDate == "" {
		return ""
	}
	region := "the cheapest region"
	if r.Region != cheapestRegion {
		region = r.Region
	}
	return fmt.Sprintf(
		"; US dollars per hour for all nodes, list prices of %s in %s (spot costs at most that)", r.PriceDate, region,
	)
}

func (c *choice) sentence() string {
	parts := []string{fmt.Sprintf("%d × %s (%s, %s)", c.Nodes, c.InstanceType, c.GPU, c.CapacityType)}
	if c.CostPerHour != nil {
		parts = append(parts, "$"+usd(*c.CostPerHour)+" per hour")
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
		e.Out, "\n%d of %d candidates fit. Memory in GiB per GPU%s:\n", rows, len(r.Candidates), r.prices(),
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

// printRejected lists the rejected candidates. Unless wide is set, sizes with the same hardware and the same reason
// share one entry.
func (e *environment) printRejected(r *planReport, wide bool) error {
	var out strings.Builder
	rows := 0
	for _, group := range rejectedGroups(r.Candidates, wide) {
		c := &group.first
		_, _ = fmt.Fprintf(
			&out, "  %s (%s, %s): %s\n      %s\n", strings.Join(group.names, ", "), orDash(c.GPU), c.CapacityType, c.Cause,
			c.Rejected,
		) // a strings.Builder does not fail
		rows += len(group.names)
	}
	if rows == 0 {
		return nil
	}
	_, err := fmt.Fprintf(e.Out, "\n%d of %d candidates were rejected:\n%s", rows, len(r.Candidates), out.String())
	return err
}

type rejectedGroup struct {
	names []string
	first choice
}

func rejectedGroups(candidates []choice, apart bool) []*rejectedGroup {
	var out []*rejectedGroup
	for _, c := range candidates {
		if c.Rejected == "" {
			continue
		}
		var same *rejectedGroup
		for _, g := range out {
			if !apart && g.first.GPU == c.GPU && g.first.CapacityType == c.CapacityType && g.first.Rejected == c.Rejected {
				same = g
			}
		}
		if same == nil {
			out = append(out, &rejectedGroup{names: []string{c.InstanceType}, first: c})
			continue
		}
		same.names = append(same.names, c.InstanceType)
	}
	return out
}
