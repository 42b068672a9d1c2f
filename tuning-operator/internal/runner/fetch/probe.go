// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/excerpt"
	"kaito.sh/shared/redact"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

// source is the server's description of a file.
type source struct {
	size      int64 // -1: unknown
	ranges    bool
	validator string // a strong ETag or Last-Modified; "": none
}

func (d *Downloader) request(ctx context.Context, f File) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return nil, fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "url %q: %w", f.name(), redact.Error(err))
	}
	// A compressed transfer has no ranges and not the size of the file.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "kaito-runner")
	if f.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.Token)
	}
	return req, nil
}

func retriable(err error) bool {
	if errors.Is(err, errChanged) || errors.Is(err, context.Canceled) {
		return false
	}
	return !fault.Of(err, tuningv1alpha1.ReasonSourceUnavailable).Permanent
}

// statusError turns an error status into a Fault, with the pause that the server requests.
func (d *Downloader) statusError(res *http.Response, f File) error {
	err := fault.HTTPStatus(res.StatusCode, f.name())
	if wait := parseRetryAfter(res.Header.Get("Retry-After"), d.Clock.Now()); wait > 0 {
		return &retry.After{Err: err, Wait: wait}
	}
	return err
}

func parseRetryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	if s, err := strconv.Atoi(v); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return at.Sub(now)
	}
	return 0
}

// probe requests the first byte. Many servers that sign their URLs refuse HEAD.
func (d *Downloader) probe(ctx context.Context, f File) (source, error) {
	var src source
	err := retry.Do(ctx, d.Clock, d.Backoff, retriable, func(ctx context.Context) (bool, error) {
		req, err := d.request(ctx, f)
		if err != nil {
			return false, err
		}
		req.Header.Set("Range", "bytes=0-0")
		res, err := d.do(req)
		if err != nil {
			return false, err
		}
		defer func() { _ = res.Body.Close() }()
		src = source{size: -1, validator: validator(res.Header)}
		switch res.StatusCode {
		case http.StatusPartialContent:
			_, _, total, err := parseContentRange(res.Header.Get("Content-Range"))
			if err != nil {
				return false, err
			}
			src.size, src.ranges = total, true
		case http.StatusOK:
			src.size = res.ContentLength
		case http.StatusRequestedRangeNotSatisfiable: // an empty file has no first byte
			src.size = 0
		default:
			return false, d.statusError(res, f)
		}
		return true, nil
	})
	return src, err
}

func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// contentRange matches the header Content-Range of an answer with one range and a known size (RFC 9110, section 14.4).
var contentRange = regexp.MustCompile(`^bytes ([0-9]+)-([0-9]+)/([0-9]+)$`)

// parseContentRange parses "bytes 0-0/1234". It returns only numbers with 0 <= from <= to < total.
func parseContentRange(v string) (from, to, total int64, err error) {
	var numbers [3]int64
	found := contentRange.FindStringSubmatch(v)
	bad := found == nil
	for i := range numbers {
		if !bad {
			numbers[i], err = strconv.ParseInt(found[i+1], 10, 64) // fails beyond 2^63-1
			bad = err != nil
		}
	}
	from, to, total = numbers[0], numbers[1], numbers[2]
	if bad || to < from || total <= to {
		return 0, 0, 0, fault.Transient(
			tuningv1alpha1.ReasonSourceUnavailable, "the server sent an invalid Content-Range %q", excerpt.Head(v, maxQuoted),
		)
	}
	return from, to, total, nil
}

// maxQuoted is the number of bytes of a header that an error quotes.
const maxQuoted = 200
