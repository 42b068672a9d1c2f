// SPDX-License-Identifier: Apache-2.0

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

// PartSize is the size in bytes of one range request. 16 MiB keep the overhead of a request well below one percent, and
// an interruption loses little.
const PartSize = 16 << 20

// Downloader fetches files over HTTP.
type Downloader struct {
	Client   *http.Client
	Clock    clock.Clock
	Progress *progress.Reporter
	Backoff  wait.Backoff
	// Parallel is the number of concurrent range requests per file, at least 1.
	Parallel int
	// PartSize is the size of a part in bytes. 0: the constant PartSize.
	PartSize int64
	// AllowHTTP permits http:// (set only with private sources).
	AllowHTTP bool
	// Budget limits the bytes of all downloads together. nil: no limit.
	Budget *disk.Budget
}

// do sends a request. Its errors contain no query of a URL, which may be a signature.
func (d *Downloader) do(req *http.Request) (*http.Response, error) {
	res, err := d.Client.Do(req)
	return res, redact.Error(err)
}

// File describes one download.
type File struct {
	URL string
	// Path is the path of the complete file. Until then its bytes are in Path.part.
	Path string
	// SHA256 is the expected digest in hex. Empty: unknown.
	SHA256 string
	// Size is the expected size in bytes. 0: unknown.
	Size int64
	// Bearer is a token that is sent to the host of URL only.
	Token string
}

// name returns the URL for messages, without its query and password, which are secrets.
func (f File) name() string { return strings.TrimSuffix(redact.URL(f.URL), "?…") }

// errChanged means that the downloaded parts are those of another version of the file.
var errChanged = errors.New("the file changed while it was being downloaded")

// maxRestarts is the number of restarts for a file that changes during the download.
const maxRestarts = 3

// Get downloads one file and returns its size and SHA-256 in hex. It resumes an earlier download in Path.part.
func (d *Downloader) Get(ctx context.Context, f File) (size int64, sum string, err error) {
	if err := d.checkURL(f.URL); err != nil {
		return 0, "", err
	}
	if f.SHA256 != "" { // complete since an earlier run
		if size, sum, err := digestFile(f.Path); err == nil && sum == strings.ToLower(f.SHA256) {
			return size, sum, d.Budget.Take(size, f.name())
		}
	}
	for restart := 0; ; restart++ {
		// A file that seems to change each time is requested in one piece: several servers behind one name may give the same
		// file different ETags.
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
			tuningv1alpha1.ReasonChecksumMismatch, "%s has %d bytes, but %d according to its index", f.name(), src.size, f.Size,
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
		"URL %q is not https: only https:// is supported",
		File{URL: url}.name(),
	)
}
