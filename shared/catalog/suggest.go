// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"sort"
	"strings"
)

const maxSuggestions = 3

// Nearest returns the names with the smallest edit distance, best first. It omits names whose distance is too large for
// a typing error, unless one name contains the other.
func Nearest(name string, known []string) []string {
	type scored struct {
		name  string
		score int
	}
	want := strings.ToLower(name)
	var hits []scored
	for _, k := range known {
		have := strings.ToLower(k)
		score := Distance(want, have)
		switch {
		case len(want) >= 4 && (strings.Contains(have, want) || strings.Contains(want, have)):
			score = min(score, 3)
		case score > 1+len(want)/4:
			continue
		}
		hits = append(hits, scored{k, score})
	}
	sort.Slice(hits, func(i, j int) bool {
		if hits[i].score != hits[j].score {
			return hits[i].score < hits[j].score
		}
		return hits[i].name < hits[j].name
	})
	var out []string
	for _, h := range hits[:min(len(hits), maxSuggestions)] {
		out = append(out, h.name)
	}
	return out
}

// Distance returns the Levenshtein distance in bytes. Names are ASCII.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
