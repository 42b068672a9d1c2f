// SPDX-License-Identifier: Apache-2.0

package excerpt

import (
	"strings"
	"unicode/utf8"

	"kaito.sh/shared/redact"
)

// maxNote is the number of bytes that the API server accepts in the note of an event. Source: the documentation of the
// field in k8s.io/api/events/v1.
const maxNote = 1024

const (
	mark        = "…"
	replacement = "\uFFFD"
)

// Head returns the beginning of text in at most limit bytes. A shortened text ends with an ellipsis, which counts.
// Invalid UTF-8 becomes U+FFFD.
func Head(text string, limit int) string {
	text = strings.ToValidUTF8(text, replacement)
	if len(text) <= limit {
		return text
	}
	end := limit - len(mark)
	if end <= 0 {
		return ""
	}
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}

// Tail returns the end of text in at most limit bytes. A shortened text begins with an ellipsis, which counts. Invalid
// UTF-8 becomes U+FFFD.
func Tail(text string, limit int) string {
	text = strings.ToValidUTF8(text, replacement)
	if len(text) <= limit {
		return text
	}
	if limit <= len(mark) {
		return ""
	}
	start := len(text) - limit + len(mark)
	for start < len(text) && !utf8.RuneStart(text[start]) {
		start++
	}
	return mark + text[start:]
}

// Note returns text shortened to the length of an event's note. URLs in it lose their secrets.
func Note(text string) string { return Head(redact.Text(text), maxNote) }
