// SPDX-License-Identifier: Apache-2.0

package main

import "regexp"

// word is a word or phrase that plain English does without.
type word struct {
	name    string
	pattern *regexp.Regexp
	// instead says what to write.
	instead string
}

// words are matched in the prose of a file, whose line breaks are spaces.
var words = []word{
	newWord("nobody", `nobody`, "name who does not, or write in the passive: \"is not read\""),
	newWord("somebody", `somebody`, "name the person or program: an administrator, the user, another controller"),
	newWord("whoever", `whoever`, "\"the user who\", \"the controller that\""),
	newWord("whatever", `whatever`, "\"any\", \"each\", or the list of what is possible"),
	newWord("is no X", `(?:is|are|was|were)\s+no`, "\"is not a\" or \"has no\""),
	newWord("goes on", `go(?:es|ing|ne)?\s+on|went\s+on`, "\"continues\", or name what happens next"),
	newWord("goes its way", `go(?:es)?\s+(?:its|their|his)\s+(?:own\s+)?way`, "\"continues\""),
	newWord("mend", `mend(?:s|ed|ing)?`, "\"fix\" or \"repair\", or say which value is allowed"),
	newWord("had of", `(?:had|have|has)\s+of`, "\"received from\", \"read from\""),
	newWord("told of", `told`, "\"notified\", \"reported\", \"set with\", \"distinguished from\""),
	newWord("waited for", `what\s+(?:is|was|it\s+is)\s+waited\s+for`, "name the resource or event that the program waits for"),
	newWord("be had", `be\s+had`, "\"available\""),
	newWord("taken for", `(?:is|are|was|were|be|been|being)\s+taken\s+(?:for|to)`, "\"is treated as\", \"is assumed to\""),
	newWord("else", `else`, "\"otherwise\", \"if not\", or a sentence of its own"),
	newWord("by itself", `by\s+itself`, "\"automatically\", \"alone\", or \"without X\""),
	newWord("the same of", `the\s+same\s+of`, "\"the same for\", or name it again"),
	newWord("stands", `stands|stood`, "\"is\", \"remains\", \"means\""),
	newWord("in vain", `in\s+vain`, "\"without success\", \"fails\""),
	newWord("house", `houses?`, "\"project\", \"cluster\", \"organization\""),
	newWord("idiom", `a\s+year\s+and\s+a\s+day|once\s+and\s+for\s+all|by\s+word\s+of\s+mouth`, "say it literally, with a figure"),
}

// correct are the uses of these words that are plain English. They are removed before the words are looked for.
var correct = regexp.MustCompile(`(?i)\b(?:` +
	`there\s+(?:is|are|was|were)\s+no|` +
	`(?:is|are|was|were)\s+no\s+(?:longer|more\s+than|less\s+than|op\b|later\s+than|earlier\s+than|larger\s+than)|` +
	`(?:any|every|some|no)(?:thing|one|where)\s+else(?:'s)?|(?:who|what|where)\s+else|no\s+one\s+else|` +
	`stands?\s+for|warehouse|in-house` +
	`)`)

func newWord(name, pattern, instead string) word {
	return word{name, regexp.MustCompile(`(?i)\b(?:` + pattern + `)\b`), instead}
}
