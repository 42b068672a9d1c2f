// SPDX-License-Identifier: Apache-2.0

// Package excerpt keeps a part of a text that is too long for the place it goes to: an event's note, a condition's
// message, a container's termination message. A cut never parts a character, since the API server and its clients
// refuse or garble such text.
package excerpt

import (
	"strings"
	"unicode/utf8"

	"kaito.sh/shared/redact"
)

// maxNote is how many bytes the events API accepts in an event's note. Source: the field's documentation in
// k8s.io/api/events/v1.
const maxNote = 1024

const (
	mark        = "…"
	replacement = "\uFFFD"
)

// Head returns the beginning of text in at most limit bytes. A text that is cut ends with an ellipsis, which counts.
// Bytes that are no UTF-8 become U+FFFD.
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

// Tail returns the end of text in at most limit bytes. A text that is cut begins with an ellipsis, which counts. Bytes
// that are no UTF-8 become U+FFFD.
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

// Note returns the beginning of text that fits into an event's note. Addresses in it lose their secrets.
func Note(text string) string { return Head(redact.Text(text), maxNote) }
