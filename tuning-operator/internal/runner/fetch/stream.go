// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

// stream downloads a file from a server without ranges in one piece. After an interruption it starts again.
func (d *Downloader) stream(ctx context.Context, f File, src source) error {
	if src.size > 0 {
		if err := d.Budget.Take(src.size, f.name()); err != nil {
			return err
		}
		if err := disk.Room(f.Path, src.size, f.name()); err != nil {
			return err
		}
		d.Progress.Expect(src.size)
	}
	return retry.Do(ctx, d.Clock, d.Backoff, retriable, func(ctx context.Context) (bool, error) {
		return false, d.streamOnce(ctx, f, src)
	})
}

// streamOnce makes one attempt to download the file.
func (d *Downloader) streamOnce(ctx context.Context, f File, src source) (err error) {
	req, err := d.request(ctx, f)
	if err != nil {
		return err
	}
	res, err := d.do(req)
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
	got, err := d.copyBody(f, src, out, res.Body)
	if err == nil && src.size >= 0 && got != src.size {
		err = fault.Transient(
			tuningv1alpha1.ReasonSourceUnavailable, "%s ended after %d of %d bytes", f.name(), got, src.size,
		)
	}
	if err != nil {
		d.Progress.Advance(f.name(), -got)
		if src.size < 0 {
			d.Budget.Refund(got) // the next attempt takes it again
		}
	}
	return err
}

// copyBody copies the body of an answer to the file and returns the number of copied bytes.
func (d *Downloader) copyBody(f File, src source, out io.Writer, body io.Reader) (got int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		n, rerr := body.Read(buf)
		if n > 0 {
			switch {
			case src.size < 0: // nothing is reserved while the size is unknown
				if err := d.Budget.Take(int64(n), f.name()); err != nil {
					return got, err
				}
			case int64(n) > src.size-got:
				return got, fault.Transient(
					tuningv1alpha1.ReasonSourceUnavailable, "%s sends more than the %d bytes that it announced", f.name(), src.size,
				)
			}
			if _, err := out.Write(buf[:n]); err != nil {
				return got, fmt.Errorf("writing %s: %w", f.Path, err)
			}
			got += int64(n)
			d.Progress.Advance(f.name(), int64(n))
		}
		if errors.Is(rerr, io.EOF) {
			return got, nil
		}
		if rerr != nil {
			return got, fmt.Errorf("%s: %w", f.name(), rerr)
		}
	}
}
