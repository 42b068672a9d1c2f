// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// hidden replaces a removed query.
const hidden = "?…"

// URL returns a URL without user, password, query and fragment. A query is replaced by an ellipsis. The URL may be
// invalid.
func URL(address string) string {
	end := strings.IndexAny(address, "?#")
	mark := ""
	if end >= 0 {
		if address[end] == '?' {
			mark = hidden
		}
		address = address[:end]
	}
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		return address + mark
	}
	host, path, slash := strings.Cut(rest, "/")
	host = host[strings.LastIndex(host, "@")+1:]
	if slash {
		path = "/" + path
	}
	return scheme + "://" + host + path + mark
}

var (
	// address matches a URL in a text. It ends at a space or at a quotation mark that is not escaped.
	address = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://(?:\\.|[^\s"\\<>])+`)
	// quoted matches a text in quotation marks, as %q writes it.
	quoted = regexp.MustCompile(`"(?:\\.|[^"\\])*"`)
)

// Text returns a text with each URL replaced by the result of URL.
func Text(text string) string {
	if !strings.ContainsAny(text, "?#@") {
		return text
	}
	// Quoted URLs come first: an invalid URL may have spaces, and the URL of a redirect may have no scheme.
	text = quoted.ReplaceAllStringFunc(text, inQuotes)
	return address.ReplaceAllStringFunc(text, inText)
}

// inQuotes redacts a quoted URL.
func inQuotes(found string) string {
	inside := found[1 : len(found)-1]
	before, _, _ := strings.Cut(inside, "?")
	if !strings.Contains(before, "://") && !strings.HasPrefix(before, "/") {
		return found
	}
	return `"` + URL(inside) + `"`
}

// inText redacts a URL and keeps the punctuation of the sentence.
func inText(found string) string {
	whole := strings.TrimRight(found, `.,:;!)'`)
	if !strings.ContainsAny(whole, "?#@") {
		return found
	}
	return URL(whole) + found[len(whole):]
}

// Error returns an error that wraps err and whose text has no secrets of URLs. It returns err if there are none. Unlike
// Text it recognizes a URL with any characters that net/http quotes.
func Error(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, quoted := range urls(err) {
		clean := URL(quoted)
		text = strings.ReplaceAll(text, inner(quoted), inner(clean))
		text = strings.ReplaceAll(text, quoted, clean)
	}
	if text = Text(text); text == err.Error() {
		return err
	}
	return &redacted{text: text, err: err}
}

// urls returns the URLs of the errors of net/http and net/url in the tree of err.
func urls(err error) []string {
	var out []string
	if failed, ok := err.(*url.Error); ok && failed.URL != "" { //nolint:errorlint // the tree is walked here
		out = append(out, failed.URL)
	}
	switch wrapper := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() error }:
		if inside := wrapper.Unwrap(); inside != nil {
			out = append(out, urls(inside)...)
		}
	case interface{ Unwrap() []error }:
		for _, inside := range wrapper.Unwrap() {
			out = append(out, urls(inside)...)
		}
	}
	return out
}

// inner returns a text as %q shows it, without the quotation marks.
func inner(text string) string {
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string { return r.text }
func (r *redacted) Unwrap() error { return r.err }
