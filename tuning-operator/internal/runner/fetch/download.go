// SPDX-License-Identifier: Apache-2.0

// Package fetch brings a base model or a dataset into the pod: files over https, HuggingFace repositories.
package fetch

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/redact"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/progress"
)

// PartSize is what one range request asks for: 16 MiB costs a connection well below a percent of overhead and loses
// little when it is cut.
const PartSize = 16 << 20

// Downloader fetches files over HTTP.
type Downloader struct {
	Client   *http.Client
	Clock    clock.Clock
	Progress *progress.Reporter
	Backoff  wait.Backoff
	// Parallel range requests a file, at least 1.
	Parallel int
	// PartSize in bytes; 0 is PartSize.
	PartSize int64
	// AllowHTTP permits plain http:// (only with private sources allowed).
	AllowHTTP bool
	// Budget bounds the bytes of all downloads together; nil: no bound.
	Budget *disk.Budget
}

// do sends a request. Its errors hold no query of an address, which may be a signature.
func (d *Downloader) do(req *http.Request) (*http.Response, error) {
	res, err := d.Client.Do(req)
	return res, redact.Error(err)
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

// name is what people see: no query and no password, for they are secrets.
func (f File) name() string { return strings.TrimSuffix(redact.URL(f.URL), "?…") }

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
			return size, sum, d.Budget.Take(size, f.name())
		}
	}
	for restart := 0; ; restart++ {
		// One that seems to change each time is asked for in one piece: servers behind one name may give one file different
		// tags.
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
		return 0, "", fault.Permanent(
			tuningv1alpha1.ReasonChecksumMismatch, "%s has %d bytes, its index says %d", f.name(), src.size, f.Size,
		)
	}
	if src.ranges && src.size > 0 && !inOnePiece {
		if err := d.Budget.Take(src.size, f.name()); err != nil {
			return 0, "", err
		}
		sum, err := d.parts(ctx, f, src)
		if errors.Is(err, errChanged) {
			d.Budget.Refund(src.size)
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
	return fault.Permanent(
		tuningv1alpha1.ReasonSourceInvalid,
		"url %q is not https; only https:// is fetched",
		File{URL: url}.name(),
	)
}
