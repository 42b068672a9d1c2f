// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"kaito.sh/shared/test/audit"
	"kaito.sh/workspace-operator/internal/placement"
)

// stages tells where the time goes: when, after the creation of its Workspace, each kind of request came in, the median
// of all Workspaces.
func (b *bench) stages(since audit.Mark, uids map[string]types.UID) string {
	requests, err := b.audit.Requests(
		since, audit.Not(audit.Verb("watch", "list", "get")), audit.Not(audit.Resource("leases")),
	)
	if err != nil {
		return err.Error()
	}
	owner := map[string]string{}
	for name, uid := range uids {
		claim := placement.Name(uid, 0, 0)
		owner[name], owner[claim], owner["n-"+claim] = name, name, name
	}
	created := map[string]time.Time{}
	count := map[string]int{}
	after := map[string][]time.Duration{}
	for _, r := range requests {
		name := owner[r.Name]
		if name == "" {
			continue
		}
		what := strings.TrimSuffix(r.Verb+" "+r.Resource+"/"+r.Subresource, "/")
		if what == "create workspaces" {
			created[name] = r.Time
			continue
		}
		count[name+what]++
		what = fmt.Sprintf("%s %d", what, count[name+what])
		after[what] = append(after[what], r.Time.Sub(created[name]))
	}
	type row struct {
		what   string
		median time.Duration
	}
	var rows []row
	for what, all := range after {
		slices.Sort(all)
		rows = append(rows, row{what, all[len(all)/2]})
	}
	slices.SortFunc(rows, func(a, b row) int { return int(a.median - b.median) })
	var out strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&out, "%8s  %s (%d)\n", r.median.Round(time.Millisecond), r.what, len(after[r.what]))
	}
	return out.String()
}
