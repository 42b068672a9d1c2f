// SPDX-License-Identifier: Apache-2.0

package runbook

import (
	_ "embed"
	"maps"
	"slices"
	"strings"
	"sync"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/api/reason"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
)

//go:embed runbooks.txt
var embedded string

// Page is the runbook of a reason.
type Page struct {
	// Reason is the page's name.
	Reason string `json:"reason"`
	// On has the kinds with the reason.
	On string `json:"on"`
	// Meaning, Look and Do are the sections "What it means", "Where to look" and "What to do".
	Meaning string `json:"meaning"`
	Look    string `json:"whereToLook"`
	Do      string `json:"whatToDo"`
	// Text is the complete page in Markdown.
	Text string `json:"-"`
}

var pages = sync.OnceValue(func() map[string]Page { return parse(embedded) })

// parse reads "-- Reason --" lines, each followed by a page.
func parse(text string) map[string]Page {
	out := map[string]Page{}
	var name string
	var body strings.Builder
	flush := func() {
		if name != "" {
			out[name] = page(name, body.String())
		}
		body.Reset()
	}
	for line := range strings.Lines(text) {
		header, found := strings.CutPrefix(strings.TrimSpace(line), "-- ")
		if header, ends := strings.CutSuffix(header, " --"); found && ends {
			flush()
			name = header
			continue
		}
		body.WriteString(line)
	}
	flush()
	return out
}

func page(reason, text string) Page {
	p := Page{Reason: reason, Text: strings.TrimSpace(text)}
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		paragraph = strings.Join(strings.Fields(paragraph), " ")
		for prefix, into := range map[string]*string{
			"On: ": &p.On, "**What it means.** ": &p.Meaning, "**Where to look.** ": &p.Look, "**What to do.** ": &p.Do,
		} {
			if rest, found := strings.CutPrefix(paragraph, prefix); found {
				*into = rest
			}
		}
	}
	return p
}

// Find returns the page of a reason, independent of upper and lower case.
func Find(reason string) (Page, bool) {
	if p, found := pages()[reason]; found {
		return p, true
	}
	for name, p := range pages() {
		if strings.EqualFold(name, reason) {
			return p, true
		}
	}
	return Page{}, false
}

// Reasons returns all reasons with a page, sorted.
func Reasons() []string { return slices.Sorted(maps.Keys(pages())) }

// InProgress returns the reasons of work in progress and of success that have no page, because no action is needed,
// sorted.
func InProgress() []string {
	out := map[string]bool{}
	for _, classes := range []map[string]reason.Class{
		kaitov1alpha1.ReasonClasses, karpenterv1alpha5.ReasonClasses, nodeclassv1alpha1.ReasonClasses,
		tuningv1alpha1.ReasonClasses,
	} {
		for name, class := range classes {
			if _, found := pages()[name]; class != reason.Stalled && !found {
				out[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// suggestions is the maximum number of suggested reasons.
const suggestions = 3

// Nearest returns the reasons that are most similar to word, best first.
func Nearest(word string) []string {
	type hit struct {
		reason string
		score  int
	}
	word = strings.ToLower(word)
	var hits []hit
	for _, reason := range Reasons() {
		lower := strings.ToLower(reason)
		score := catalog.Distance(word, lower)
		switch {
		case len(word) >= 3 && strings.Contains(lower, word):
			score = min(score, 1)
		case score > 1+len(word)/3:
			continue
		}
		hits = append(hits, hit{reason, score})
	}
	slices.SortStableFunc(hits, func(a, b hit) int { return a.score - b.score })
	var out []string
	for _, h := range hits[:min(len(hits), suggestions)] {
		out = append(out, h.reason)
	}
	return out
}
