// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sync/errgroup"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

// parts downloads the missing ranges concurrently and returns the SHA-256 of the file in hex.
func (d *Downloader) parts(ctx context.Context, f File, src source) (sum string, err error) {
	size := d.PartSize
	if size <= 0 {
		size = PartSize
	}
	if err := checkSize(f, src.size, size); err != nil {
		return "", err
	}
	st, err := openState(f, src, size)
	if err != nil {
		return "", err
	}
	defer func() { _ = st.close() }() // for errors; on success it is closed, and the error checked, below
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

// run downloads consecutive parts with one request. It resumes an interrupted connection at the byte where it ended.
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
	res, err := d.do(req)
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
		return fault.Transient(
			tuningv1alpha1.ReasonSourceUnavailable, "%s: requested byte %d, got byte %d", f.name(), *at, from,
		)
	}
	n, err := io.Copy(out, io.LimitReader(res.Body, to-*at+1))
	if err != nil {
		return fmt.Errorf("%s: %w", f.name(), err)
	}
	if *at != to+1 {
		return fault.Transient(
			tuningv1alpha1.ReasonSourceUnavailable, "%s: the connection ended after %d bytes of a part", f.name(), n,
		)
	}
	return nil
}

// offsetWriter writes at a moving offset, which it keeps for the next attempt.
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
