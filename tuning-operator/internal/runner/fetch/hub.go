// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/dataset"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

// DefaultEndpoint is the URL of HuggingFace. HF_ENDPOINT sets that of a mirror.
const DefaultEndpoint = "https://huggingface.co"

// Kind is the kind of a HuggingFace repository.
type Kind string

// The supported kinds.
const (
	Model   Kind = "models"
	Dataset Kind = "datasets"
)

// Hub reads HuggingFace repositories with the HTTP API (https://huggingface.co/docs/hub/api).
type Hub struct {
	Endpoint   string
	Token      string
	Downloader *Downloader
}

// Snapshot is a repository at a commit.
type Snapshot struct {
	ID string
	// Commit is the resolved revision, 40 hex digits.
	Commit string
	Files  []HubFile
}

// HubFile is one file of a repository.
type HubFile struct {
	Path   string
	Size   int64
	SHA256 string // known for large files only
}

var (
	repoID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$`)
	commit = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// maxIndexBytes limits the API's answer: the largest repositories list about ten thousand files.
const maxIndexBytes = 64 << 20

// Resolve returns the commit of a revision (a branch, a tag or a commit; empty: main) and its files.
func (h *Hub) Resolve(ctx context.Context, kind Kind, id, revision string) (Snapshot, error) {
	if !repoID.MatchString(id) {
		return Snapshot{}, fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid, "%q is not a valid HuggingFace ID: use organisation/name", id,
		)
	}
	if revision == "" {
		revision = "main"
	}
	where := h.endpoint() + "/api/" + string(kind) + "/" + id + "/revision/" + url.PathEscape(revision) + "?blobs=true"
	if err := h.Downloader.checkURL(where); err != nil {
		return Snapshot{}, err
	}
	var doc struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
			Size int64  `json:"size"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := h.get(ctx, where, &doc); err != nil {
		return Snapshot{}, fmt.Errorf("looking up %s %s at %q: %w", strings.TrimSuffix(string(kind), "s"), id, revision, err)
	}
	if !commit.MatchString(doc.SHA) {
		return Snapshot{}, fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid, "%s answered for %s without a commit: check that HF_ENDPOINT is a mirror of HuggingFace",
			h.endpoint(), id,
		)
	}
	snap := Snapshot{ID: id, Commit: doc.SHA}
	for _, s := range doc.Siblings {
		f := HubFile{Path: s.Name, Size: s.Size}
		if s.LFS != nil {
			f.SHA256, f.Size = s.LFS.SHA256, s.LFS.Size
		}
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return Snapshot{}, fault.Permanent(
				tuningv1alpha1.ReasonSourceInvalid, "%s lists the file %q, which is outside of its folder", id, f.Path,
			)
		}
		snap.Files = append(snap.Files, f)
	}
	slices.SortFunc(snap.Files, func(a, b HubFile) int { return strings.Compare(a.Path, b.Path) })
	return snap, nil
}

func (h *Hub) endpoint() string {
	if h.Endpoint == "" {
		return DefaultEndpoint
	}
	return strings.TrimRight(h.Endpoint, "/")
}

func (h *Hub) get(ctx context.Context, where string, into any) error {
	d := h.Downloader
	return retry.Do(ctx, d.Clock, d.Backoff, retriable, func(ctx context.Context) (bool, error) {
		f := File{URL: where, Token: h.Token}
		req, err := d.request(ctx, f)
		if err != nil {
			return false, err
		}
		res, err := d.do(req)
		if err != nil {
			return false, err
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			return false, d.statusError(res, f)
		}
		if err := json.NewDecoder(io.LimitReader(res.Body, maxIndexBytes)).Decode(into); err != nil {
			return false, fault.Transient(tuningv1alpha1.ReasonSourceUnavailable, "%s: unreadable answer: %v", f.name(), err)
		}
		return true, nil
	})
}

// ModelFiles returns the files that a trainer or an engine loads: safetensors, configuration and tokenizer. A model
// without safetensors is an error, because loading pickled weights runs the code in them.
func ModelFiles(s Snapshot) ([]HubFile, error) {
	var out []HubFile
	weights := false
	for _, f := range s.Files {
		if strings.Contains(f.Path, "/") { // original/, onnx/, gguf/: other formats of the same weights
			continue
		}
		switch path.Ext(f.Path) {
		case ".safetensors":
			weights = true
			out = append(out, f)
		case ".json", ".txt", ".model", ".jinja", ".tiktoken", ".py":
			out = append(out, f)
		}
	}
	if !weights {
		return nil, fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid,
			"%s at %s has no *.safetensors; pickled weights are not loaded, because they can run code", s.ID, s.Commit,
		)
	}
	return out, nil
}

// DatasetFiles returns the training data: the parquet files, or if there are none the JSON lines, JSON or CSV files. It
// omits files whose names belong to a test or validation split.
func DatasetFiles(s Snapshot) ([]HubFile, error) {
	for _, ext := range []string{".parquet", ".jsonl", ".json", ".csv"} {
		var out []HubFile
		for _, f := range s.Files {
			if path.Ext(f.Path) == ext && !dataset.HeldOut(f.Path) && !isMetadata(f.Path) {
				out = append(out, f)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, fault.Permanent(
		tuningv1alpha1.ReasonDatasetInvalid, "dataset %s at %s has no parquet, jsonl, json or csv file", s.ID, s.Commit,
	)
}

func isMetadata(p string) bool {
	base := path.Base(p)
	return base == "dataset_infos.json" || base == "dataset_info.json" || base == "state.json" ||
		strings.HasPrefix(base, ".")
}

// Download downloads files of a snapshot to a folder and returns their digests by path.
func (h *Hub) Download(
	ctx context.Context, kind Kind, s Snapshot, files []HubFile, into string,
) (map[string]string, int64, error) {
	prefix := h.endpoint() + "/"
	if kind == Dataset {
		prefix += "datasets/"
	}
	sums := make(map[string]string, len(files))
	var total int64
	for _, f := range files {
		dest := filepath.Join(into, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil { // the trainer reads it as another user
			return nil, 0, fmt.Errorf("creating the folder of %s: %w", f.Path, err)
		}
		n, sum, err := h.Downloader.Get(ctx, File{
			URL:  prefix + s.ID + "/resolve/" + s.Commit + "/" + (&url.URL{Path: f.Path}).EscapedPath(),
			Path: dest, SHA256: f.SHA256, Size: f.Size, Token: h.Token,
		})
		if err != nil {
			return nil, 0, err
		}
		sums[f.Path] = sum
		total += n
	}
	return sums, total, nil
}
