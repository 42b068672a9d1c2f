// Package fetch brings a base model or a dataset into the pod: files over https, HuggingFace repositories.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/progress"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

// PartSize is what one range request asks for: 16 MiB costs a connection well below a percent of overhead and loses
// little when it is cut.
const PartSize = 16 << 20

// Downloader fetches files over HTTP.
type Downloader struct {
	Client   *http.Client
	Clock    clock.Clock
	Progress *progress.Reporter
	Backoff  retry.Backoff
	// Parallel range requests a file, at least 1.
	Parallel int
	// PartSize in bytes; 0 is PartSize.
	PartSize int64
	// AllowHTTP permits plain http:// (only with private sources allowed).
	AllowHTTP bool

	mu   sync.Mutex
	left int64 // of the byte budget; negative: no budget
}

// SetBudget bounds the bytes of all downloads together; 0 means no bound.
func (d *Downloader) SetBudget(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = bytes
	if bytes == 0 {
		d.left = -1
	}
}

// reserve takes bytes from the budget.
func (d *Downloader) reserve(bytes int64, what string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left < 0 {
		return nil
	}
	if bytes > d.left {
		return fault.Permanent(tuningv1alpha1.ReasonSourceTooLarge, "%s needs %d bytes, %d are left of --max-bytes; raise it together with the volume's size", what, bytes, d.left)
	}
	d.left -= bytes
	return nil
}

// refund gives back what a download that starts over had taken.
func (d *Downloader) refund(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left >= 0 {
		d.left += bytes
	}
}

// File is one download.
type File struct {
	URL string
	// Path is where the finished file appears; until then its bytes are in Path.part.
	Path string
	// SHA256 in hex, checked when it is known.
	SHA256 string
	// Size in bytes, checked when it is > 0.
	Size int64
	// Bearer token, sent to URL's host only.
	Token string
}

// name is what people see: no query, for it may carry a signature.
func (f File) name() string {
	name, _, _ := strings.Cut(f.URL, "?")
	return name
}

// errChanged means that the file is another one than the one whose parts we hold.
var errChanged = errors.New("the file changed while it was being downloaded")

// maxRestarts of a file that changes under the download.
const maxRestarts = 3

// Get downloads one file and returns its size and SHA-256 in hex. It continues what an earlier run left in Path.part.
func (d *Downloader) Get(ctx context.Context, f File) (size int64, sum string, err error) {
	if err := d.checkURL(f.URL); err != nil {
		return 0, "", err
	}
	if f.SHA256 != "" { // an earlier run's finished file
		if size, sum, err := digestFile(f.Path); err == nil && sum == strings.ToLower(f.SHA256) {
			return size, sum, nil
		}
	}
	for restart := 0; ; restart++ {
		// One that seems to change each time is asked for in one piece: servers behind one name may give one file different tags.
		size, sum, err = d.once(ctx, f, restart == maxRestarts)
		if !errors.Is(err, errChanged) || restart == maxRestarts {
			return size, sum, err
		}
		d.Progress.Event("restart", err.Error(), map[string]any{"item": f.name()})
		if err := discard(f.Path); err != nil {
			return 0, "", err
		}
	}
}

func (d *Downloader) once(ctx context.Context, f File, inOnePiece bool) (int64, string, error) {
	src, err := d.probe(ctx, f)
	if err != nil {
		return 0, "", err
	}
	if f.Size > 0 && src.size >= 0 && src.size != f.Size {
		return 0, "", fault.Permanent(tuningv1alpha1.ReasonChecksumMismatch, "%s has %d bytes, its index says %d", f.name(), src.size, f.Size)
	}
	if src.ranges && src.size > 0 && !inOnePiece {
		if err := d.reserve(src.size, f.name()); err != nil {
			return 0, "", err
		}
		sum, err := d.parts(ctx, f, src)
		if errors.Is(err, errChanged) {
			d.refund(src.size)
			d.Progress.Expect(-src.size)
		}
		if err != nil {
			return 0, "", err
		}
		return d.finish(f, src.size, sum)
	}
	if err := d.stream(ctx, f, src); err != nil {
		return 0, "", err
	}
	size, sum, err := digestFile(f.Path + partSuffix)
	if err != nil {
		return 0, "", err
	}
	return d.finish(f, size, sum)
}

func (d *Downloader) checkURL(url string) error {
	if strings.HasPrefix(url, "https://") || (d.AllowHTTP && strings.HasPrefix(url, "http://")) {
		return nil
	}
	name, _, _ := strings.Cut(url, "?")
	return fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "url %q is not https; only https:// is fetched", name)
}

// source is what the server said about a file.
type source struct {
	size      int64 // -1: unknown
	ranges    bool
	validator string // a strong ETag or Last-Modified, "" if there is none
}

func (d *Downloader) request(ctx context.Context, f File) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return nil, fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "url %q: %v", f.name(), err)
	}
	// A compressed transfer has neither ranges nor the file's own size.
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

// statusError turns a refusal into a Fault, with the pause that the server asks for.
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

// probe asks for the first byte: HEAD is refused by many servers that sign their URLs.
func (d *Downloader) probe(ctx context.Context, f File) (source, error) {
	var src source
	err := retry.Do(ctx, d.Clock, d.Backoff, retriable, func(ctx context.Context) (bool, error) {
		req, err := d.request(ctx, f)
		if err != nil {
			return false, err
		}
		req.Header.Set("Range", "bytes=0-0")
		res, err := d.Client.Do(req)
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

// parseContentRange reads "bytes 0-0/1234".
func parseContentRange(v string) (from, to, total int64, err error) {
	if _, err := fmt.Sscanf(v, "bytes %d-%d/%d", &from, &to, &total); err != nil || from < 0 || to < from || total <= to {
		return 0, 0, 0, fault.Transient(tuningv1alpha1.ReasonSourceUnavailable, "the server sent an unusable Content-Range %q", v)
	}
	return from, to, total, nil
}

// parts downloads the missing ranges, several at a time, and returns the file's SHA-256 in hex.
func (d *Downloader) parts(ctx context.Context, f File, src source) (sum string, err error) {
	size := d.PartSize
	if size <= 0 {
		size = PartSize
	}
	st, err := openState(f, src, size)
	if err != nil {
		return "", err
	}
	defer func() { _ = st.close() }() // on the way of an error; on the other it is closed, and checked, below
	d.Progress.Expect(src.size)
	d.Progress.Advance(f.name(), st.have())
	missing := st.missing(d.Parallel <= 1)
	settle := newSettler(st)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(d.Parallel, 1))
	for _, r := range missing {
		g.Go(func() error { return d.run(ctx, f, src, st, settle, r) })
	}
	err = g.Wait()
	sum, settleErr := settle.end()
	if err == nil {
		err = settleErr
	}
	if err != nil {
		return "", err
	}
	return sum, st.close()
}

// run downloads parts that follow one another by one request; a cut connection is continued at the byte where it was cut.
func (d *Downloader) run(ctx context.Context, f File, src source, st *state, settle *settler, r run) error {
	at, _ := st.bounds(r.first)
	_, to := st.bounds(r.last)
	next := r.first
	return retry.Do(ctx, d.Clock, d.Backoff, retriable, func(ctx context.Context) (bool, error) {
		before := at
		err := d.span(ctx, f, src, &offsetWriter{st.file, &at, func(n int) error {
			d.Progress.Advance(f.name(), int64(n))
			for ; next <= r.last; next++ {
				if _, end := st.bounds(next); at <= end {
					break
				}
				if err := settle.add(next); err != nil {
					return err
				}
			}
			return nil
		}}, to)
		return at > before, err
	})
}

func (d *Downloader) span(ctx context.Context, f File, src source, out *offsetWriter, to int64) error {
	at := out.at
	req, err := d.request(ctx, f)
	if err != nil {
		return err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", *at, to))
	if src.validator != "" {
		req.Header.Set("If-Range", src.validator)
	}
	res, err := d.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	switch res.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK, http.StatusRequestedRangeNotSatisfiable:
		return errChanged
	default:
		return d.statusError(res, f)
	}
	from, _, total, err := parseContentRange(res.Header.Get("Content-Range"))
	if err != nil {
		return err
	}
	if v := validator(res.Header); total != src.size || (src.validator != "" && v != "" && v != src.validator) {
		return errChanged
	}
	if from != *at {
		return fault.Transient(tuningv1alpha1.ReasonSourceUnavailable, "%s: asked for byte %d, got %d", f.name(), *at, from)
	}
	n, err := io.Copy(out, io.LimitReader(res.Body, to-*at+1))
	if err != nil {
		return fmt.Errorf("%s: %w", f.name(), err)
	}
	if *at != to+1 {
		return fault.Transient(tuningv1alpha1.ReasonSourceUnavailable, "%s: the connection ended after %d bytes of a part", f.name(), n)
	}
	return nil
}

// offsetWriter writes at a moving offset, which it keeps for the next try.
type offsetWriter struct {
	to    io.WriterAt
	at    *int64
	wrote func(int) error
}

func (w *offsetWriter) Write(p []byte) (int, error) {
	n, err := w.to.WriteAt(p, *w.at)
	*w.at += int64(n)
	if wroteErr := w.wrote(n); err == nil {
		err = wroteErr
	}
	return n, err
}

// stream downloads from a server without ranges: from the start, in one piece, again after a cut.
func (d *Downloader) stream(ctx context.Context, f File, src source) error {
	if src.size > 0 {
		if err := d.reserve(src.size, f.name()); err != nil {
			return err
		}
		d.Progress.Expect(src.size)
	}
	return retry.Do(ctx, d.Clock, d.Backoff, retriable, func(ctx context.Context) (bool, error) {
		return false, d.streamOnce(ctx, f, src)
	})
}

func (d *Downloader) streamOnce(ctx context.Context, f File, src source) (err error) {
	req, err := d.request(ctx, f)
	if err != nil {
		return err
	}
	res, err := d.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return d.statusError(res, f)
	}
	out, err := os.Create(f.Path + partSuffix)
	if err != nil {
		return fmt.Errorf("creating the download: %w", err)
	}
	defer func() {
		if cerr := out.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("closing the download: %w", cerr)
		}
	}()
	var got int64
	defer func() {
		if err != nil {
			d.Progress.Advance(f.name(), -got)
			if src.size < 0 {
				d.refund(got) // the next try takes it again
			}
		}
	}()
	buf := make([]byte, 256<<10)
	for {
		n, rerr := res.Body.Read(buf)
		if n > 0 {
			if src.size < 0 { // nothing was reserved: the size was unknown
				if err := d.reserve(int64(n), f.name()); err != nil {
					return err
				}
			}
			if _, err := out.Write(buf[:n]); err != nil {
				return fmt.Errorf("writing %s: %w", f.Path, err)
			}
			got += int64(n)
			d.Progress.Advance(f.name(), int64(n))
		}
		if errors.Is(rerr, io.EOF) {
			break
		}
		if rerr != nil {
			return fmt.Errorf("%s: %w", f.name(), rerr)
		}
	}
	if src.size >= 0 && got != src.size {
		return fault.Transient(tuningv1alpha1.ReasonSourceUnavailable, "%s ended after %d of %d bytes", f.name(), got, src.size)
	}
	return nil
}
