// Package fetch brings a base model or a dataset into the pod: files over https, HuggingFace repositories.
package fetch

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

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
