// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
)

// report counts what became of the pages' blocks: what was run, and what was not, for which reason.
type report struct {
	mutex sync.Mutex
	rows  map[string]*row
}

type row struct {
	blocks, ran int
	unrun       map[string]int
}

func newReport() *report { return &report{rows: map[string]*row{}} }

func (r *report) at(path string, change func(*row)) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.rows[path] == nil {
		r.rows[path] = &row{unrun: map[string]int{}}
	}
	change(r.rows[path])
}

func (r *report) block(path string)         { r.at(path, func(row *row) { row.blocks++ }) }
func (r *report) ran(path string)           { r.at(path, func(row *row) { row.ran++ }) }
func (r *report) unrun(path, reason string) { r.at(path, func(row *row) { row.unrun[reason]++ }) }

// String is a table of the pages that have blocks.
func (r *report) String() string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\nPAGE\tBLOCKS\tRAN\tNOT RUN")
	total := row{}
	for _, path := range slices.Sorted(maps.Keys(r.rows)) {
		row := r.rows[path]
		total.blocks, total.ran = total.blocks+row.blocks, total.ran+row.ran
		var why []string
		for _, reason := range slices.Sorted(maps.Keys(row.unrun)) {
			why = append(why, fmt.Sprintf("%d %s", row.unrun[reason], reason))
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%s\n", path, row.blocks, row.ran, strings.Join(why, "; "))
	}
	_, _ = fmt.Fprintf(table, "together\t%d\t%d\t\n", total.blocks, total.ran)
	_ = table.Flush()
	return out.String()
}
