// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Kind groups requests.
type Kind struct {
	User, Verb, Resource string // for example "deployments.apps/status"
}

// Tally counts requests by kind.
func Tally(requests []Request) map[Kind]int {
	counts := map[Kind]int{}
	for _, r := range requests {
		counts[Kind{User: r.User, Verb: r.Verb, Resource: r.resource()}]++
	}
	return counts
}

func (r Request) resource() string {
	switch {
	case r.Resource == "":
		path, _, _ := strings.Cut(r.Path, "?")
		return path
	case r.Group != "":
		return join(r.Resource+"."+r.Group, r.Subresource)
	default:
		return join(r.Resource, r.Subresource)
	}
}

// Table returns the tally as the message of a failed assertion: most frequent first, with an example of each kind.
func Table(requests []Request) string {
	counts := Tally(requests)
	examples := map[Kind]Request{}
	for _, r := range requests {
		examples[Kind{User: r.User, Verb: r.Verb, Resource: r.resource()}] = r
	}
	kinds := slices.SortedFunc(maps.Keys(counts), func(a, b Kind) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a.User, b.User),
			cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Verb, b.Verb))
	})
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		// Writes to a strings.Builder do not fail.
		_, _ = fmt.Fprintln(table, strings.TrimSuffix(fmt.Sprintf(strings.Repeat("%v\t", len(cells)), cells...), "\t"))
	}
	row("COUNT", "USER", "VERB", "RESOURCE", "LAST", "CODE", "AT")
	for _, kind := range kinds {
		last := examples[kind]
		row(
			counts[kind], kind.User, kind.Verb, kind.Resource, join(last.Namespace, last.Name), last.Code,
			last.Time.Format("15:04:05.000"),
		)
	}
	row(len(requests), "in all")
	_ = table.Flush()
	return out.String()
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "/")
}
