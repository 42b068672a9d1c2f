// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"regexp/syntax"
	"strings"
)

// matching returns a string that matches a regular expression. ok is false if the expression is invalid. Anchors are
// ignored.
func (g *Generator) matching(pattern string) (text string, ok bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", false
	}
	var b strings.Builder
	g.write(&b, re.Simplify())
	return b.String(), true
}

// maxRepeats limits the repetitions of * and +.
const maxRepeats = 4

func (g *Generator) write(b *strings.Builder, re *syntax.Regexp) {
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if n := len(re.Rune) / 2; n > 0 {
			i := g.rand.IntN(n)
			b.WriteRune(re.Rune[2*i] + g.rand.Int32N(re.Rune[2*i+1]-re.Rune[2*i]+1))
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteString(g.one([]string{"a", "7", "é", "-", "/"}))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			g.write(b, sub)
		}
	case syntax.OpAlternate:
		g.write(b, re.Sub[g.rand.IntN(len(re.Sub))])
	case syntax.OpQuest:
		g.repeat(b, re.Sub[0], g.rand.IntN(2))
	case syntax.OpStar:
		g.repeat(b, re.Sub[0], g.rand.IntN(maxRepeats+1))
	case syntax.OpPlus:
		g.repeat(b, re.Sub[0], 1+g.rand.IntN(maxRepeats))
	}
}

func (g *Generator) repeat(b *strings.Builder, re *syntax.Regexp, times int) {
	for range times {
		g.write(b, re)
	}
}
