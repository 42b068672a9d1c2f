// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"fmt"
	"strings"
)

// UnknownFlagError says that a release has no such flag.
type UnknownFlagError struct {
	// Word as it was given, with dashes.
	Word, Version string
	// Suggestions are flags with a similar name, without dashes, best first.
	Suggestions []string
}

func (e *UnknownFlagError) Error() string {
	text := fmt.Sprintf("vLLM %s has no such flag", e.Version)
	if why := removed[strings.TrimPrefix(strings.TrimPrefix(e.Word, "--"), "no-")]; why != "" {
		return text + " any more: " + why
	}
	if len(e.Suggestions) > 0 {
		return text + "; did you mean " + strings.Join(e.Suggestions, " or ") + "?"
	}
	return text + "; remove the key"
}

// AmbiguousFlagError says that a word is the beginning of several flags.
type AmbiguousFlagError struct {
	Word    string
	Matches []string
}

func (e *AmbiguousFlagError) Error() string {
	return fmt.Sprintf("is the beginning of %s; write the whole name", strings.Join(e.Matches, ", "))
}

// ValueError says that a flag does not take a value.
type ValueError struct {
	// Flag without dashes.
	Flag, Value, Allowed string
}

func (e *ValueError) Error() string { return fmt.Sprintf("is %q; allowed: %s", e.Value, e.Allowed) }
