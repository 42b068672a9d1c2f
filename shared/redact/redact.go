// SPDX-License-Identifier: Apache-2.0

// Package redact takes the secrets out of addresses before people see them. An address may carry a signature in its
// query (an Azure SAS, an S3 presigned URL) or a password before its host. Errors of net/http quote whole addresses,
// those of redirects too, and what an error says ends in logs, conditions and events.
package redact

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// hidden stands for a query that was taken out.
const hidden = "?…"

// URL returns an address without user, password, query and fragment. A query leaves a mark. The address need not be a
// valid one.
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
	// address is one in a text: it ends at a space or at a quotation mark that is not escaped.
	address = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://(?:\\.|[^\s"\\<>])+`)
	// quoted is a text in quotation marks, as %q writes it.
	quoted = regexp.MustCompile(`"(?:\\.|[^"\\])*"`)
)

// Text returns a text in which each address is as URL returns it.
func Text(text string) string {
	if !strings.ContainsAny(text, "?#@") {
		return text
	}
	// First those in quotation marks: an address that cannot be read may have spaces, and one of a redirect may have no
	// scheme.
	text = quoted.ReplaceAllStringFunc(text, inQuotes)
	return address.ReplaceAllStringFunc(text, inText)
}

// inQuotes redacts a quoted address.
func inQuotes(found string) string {
	inside := found[1 : len(found)-1]
	before, _, _ := strings.Cut(inside, "?")
	if !strings.Contains(before, "://") && !strings.HasPrefix(before, "/") {
		return found
	}
	return `"` + URL(inside) + `"`
}

// inText redacts an address and leaves the punctuation of the sentence that it stands in.
func inText(found string) string {
	whole := strings.TrimRight(found, `.,:;!)'`)
	if !strings.ContainsAny(whole, "?#@") {
		return found
	}
	return URL(whole) + found[len(whole):]
}

// Error returns an error whose text has no secrets of addresses, and that wraps err. It is err where nothing had to be
// taken out. Unlike Text it knows the whole address that net/http quotes, whatever characters are in it.
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

// urls are the addresses that net/http and net/url name in err and in what it wraps.
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

// inner is a text as %q shows it, without the quotation marks.
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
