// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/runbook"
)

// renderer turns a snapshot into lines.
type renderer struct {
	palette palette
	now     time.Time
	// width truncates lines to the width of the terminal, so that the number of lines is known; 0 does not truncate.
	width int
}

func (r renderer) lines(s *snapshot) []string {
	var out []string
	r.branch(&out, newTree(s), "", "")
	out = append(out, r.milestones(s.workspace)...)
	out = append(out, r.remedy(s.workspace)...)
	if len(s.hidden) > 0 {
		out = append(
			out,
			r.palette.paint(yellow, "not shown")+": you may not read "+strings.Join(
				s.hidden, ", ",
			)+"; run "+kubectl+" doctor for the missing permissions",
		)
	}
	for i := range out {
		out[i] = r.cut(out[i])
	}
	return out
}

// branch draws one object, its details and its children. first is the prefix of its line, rest the prefix of the lines
// below it.
func (r renderer) branch(out *[]string, b *branch, first, rest string) {
	line := first + r.mark(b.level) + " " + b.name
	if b.text != "" {
		line += "  " + strings.Join(strings.Fields(b.text), " ")
	}
	if a := age(b.created, r.now); a != "" {
		line += "  " + r.palette.paint(faint, a)
	}
	*out = append(*out, line)
	stem := "  "
	if len(b.children) > 0 {
		stem = "│ "
	}
	for _, detail := range b.details {
		*out = append(*out, rest+stem+"  "+r.palette.paint(faint, strings.Join(strings.Fields(detail), " ")))
	}
	for i, child := range b.children {
		branchFirst, branchRest := "├─ ", "│  "
		if i == len(b.children)-1 {
			branchFirst, branchRest = "└─ ", "   "
		}
		r.branch(out, child, rest+branchFirst, rest+branchRest)
	}
}

func (r renderer) mark(l level) string {
	switch l {
	case levelGood:
		return r.palette.paint(green, "✓")
	case levelBad:
		return r.palette.paint(red, "✗")
	}
	return r.palette.paint(yellow, "…")
}

// milestones returns the milestones of a Workspace, each with the time since the previous one.
func (r renderer) milestones(w *kaitov1alpha1.Workspace) []string {
	m := w.Status.Milestones
	if m == nil {
		return nil
	}
	before := w.CreationTimestamp.Time
	var out []string
	for _, one := range []struct {
		name string
		at   *metav1.Time
	}{
		{"planned", m.Planned}, {"nodes requested", m.NodesRequested}, {"nodes ready", m.NodesReady}, {"tuned", m.Tuned},
		{"image pulled", m.ImagePulled}, {"weights ready", m.WeightsReady}, {"engine ready", m.EngineReady},
	} {
		if one.at == nil {
			continue
		}
		out = append(
			out, fmt.Sprintf("  %s  %-15s  +%s", clockTime(one.at.Time), one.name, duration.HumanDuration(one.at.Sub(before))),
		)
		before = one.at.Time
	}
	if len(out) == 0 {
		return nil
	}
	return append([]string{"", "milestones (since " + clockTime(w.CreationTimestamp.Time) + ")"}, out...)
}

// remedy returns the reason and the message in full, with the remedy of the runbook.
func (r renderer) remedy(w *kaitov1alpha1.Workspace) []string {
	c := trouble(w)
	if c == nil {
		return nil
	}
	out := []string{"", r.palette.paint(red, c.Reason) + ": " + strings.Join(strings.Fields(c.Message), " ")}
	if page, found := runbook.Find(c.Reason); found {
		out = append(out, "  what to do: "+page.Do, "  more:       "+kubectl+" explain "+page.Reason)
	}
	return out
}

// trouble returns the condition that needs attention: Stalled, or a Ready condition that is false for a reason with a
// runbook.
func trouble(w *kaitov1alpha1.Workspace) *metav1.Condition {
	if c := meta.FindStatusCondition(w.Status.Conditions, kaitov1alpha1.ConditionStalled); c != nil &&
		c.Status == metav1.ConditionTrue {
		return c
	}
	c := meta.FindStatusCondition(w.Status.Conditions, kaitov1alpha1.ConditionReady)
	if c == nil || c.Status == metav1.ConditionTrue {
		return nil
	}
	if _, found := runbook.Find(c.Reason); !found {
		return nil
	}
	return c
}

// cut truncates a line to the terminal's width. Colour codes do not count.
func (r renderer) cut(line string) string {
	if r.width <= 0 {
		return line
	}
	var out strings.Builder
	seen, painting := 0, false
	for _, c := range line {
		switch {
		case c == '\x1b':
			painting = true
		case painting:
			painting = c != 'm'
		case seen == r.width:
			continue
		default:
			seen++
		}
		out.WriteRune(c)
	}
	return out.String()
}
