// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/runner/dataset"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/fetch"
	"kaito.sh/tuning-operator/internal/runner/netguard"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

func (f *fetchFlags) downloader(s *session) *fetch.Downloader {
	return &fetch.Downloader{
		Client:    s.env.Transport(netguard.Policy{AllowPrivate: f.allowPrivate, AllowLocal: f.allowPrivate}),
		Clock:     s.env.Clock,
		Progress:  s.progress,
		Backoff:   retry.Default(),
		Parallel:  f.parallel,
		AllowHTTP: f.allowPrivate,
		Budget:    f.budget,
	}
}

func (f *fetchFlags) hub(s *session) *fetch.Hub {
	return &fetch.Hub{Endpoint: s.env.Getenv("HF_ENDPOINT"), Token: s.env.Getenv("HF_TOKEN"), Downloader: f.downloader(s)}
}

func (f *fetchFlags) fetchDataset(ctx context.Context, s *session, facts *message.Fetch) error {
	if err := f.bringDataset(ctx, s); err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	report, err := dataset.Inspect(f.datasetDir, f.datasetPath, f.columns)
	if err != nil {
		return err
	}
	s.progress.Event("dataset", "looked through", map[string]any{"report": report})
	facts.DatasetDigest, facts.DatasetFormat, facts.DatasetSchema = report.Digest, string(report.Format), string(
		report.Schema.Kind,
	)
	facts.Rows, facts.Bytes = report.Rows, facts.Bytes+report.Bytes
	tokens := report.Tokens
	facts.TokensP50, facts.TokensP95, facts.TokensMax, facts.TokenRule = tokens.P50, tokens.P95, tokens.Max, tokens.Rule
	return nil
}

func (f *fetchFlags) bringDataset(ctx context.Context, s *session) error {
	switch {
	case f.datasetImage != "":
		client, err := s.registry(f.credentials)
		if err != nil {
			return err
		}
		_, err = client.Pull(ctx, f.datasetImage, f.datasetDir, f.budget)
		return err
	case f.dataset != "":
		hub := f.hub(s)
		snap, err := hub.Resolve(ctx, fetch.Dataset, f.dataset, f.datasetRevision)
		if err != nil {
			return err
		}
		files, err := fetch.DatasetFiles(snap)
		if err != nil {
			return err
		}
		s.progress.Event("pinned", f.dataset, map[string]any{"commit": snap.Commit, "files": len(files)})
		_, _, err = hub.Download(ctx, fetch.Dataset, snap, files, f.datasetDir)
		return err
	case len(f.datasetURLs) > 0:
		return f.download(ctx, s)
	}
	return nil
}

func (f *fetchFlags) download(ctx context.Context, s *session) error {
	if err := os.MkdirAll(f.datasetDir, 0o755); err != nil { // the trainer reads it as another user
		return fmt.Errorf("creating the folder of the dataset: %w", err)
	}
	d := f.downloader(s)
	names, err := fileNames(f.datasetURLs)
	if err != nil {
		return err
	}
	for i, u := range f.datasetURLs {
		if _, _, err := d.Get(ctx, fetch.File{URL: u, Path: filepath.Join(f.datasetDir, names[i])}); err != nil {
			return err
		}
	}
	return nil
}

// fileNames returns a file name for each URL: its last path element, with a number if two are the same.
func fileNames(urls []string) ([]string, error) {
	seen := map[string]bool{}
	var out []string
	for i, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, fault.Permanent(
				tuningv1alpha1.ReasonSourceInvalid, "dataset URL number %d is invalid", i+1,
			) // the parser's error would quote a signature
		}
		name := path.Base(u.Path)
		if name == "." || name == "/" || strings.HasPrefix(name, ".") || strings.ContainsRune(name, filepath.Separator) {
			name = "data"
		}
		if seen[name] {
			name = fmt.Sprintf("%d-%s", i, name)
		}
		seen[name] = true
		out = append(out, name)
	}
	return out, nil
}

func (f *fetchFlags) fetchModel(ctx context.Context, s *session, facts *message.Fetch) error {
	switch {
	case f.model != "":
		hub := f.hub(s)
		snap, err := hub.Resolve(ctx, fetch.Model, f.model, f.modelRevision)
		if err != nil {
			return err
		}
		files, err := fetch.ModelFiles(snap)
		if err != nil {
			return err
		}
		facts.BaseRevision = snap.Commit
		if facts.BaseModel == "" {
			facts.BaseModel = f.model
		}
		s.progress.Event("pinned", f.model, map[string]any{"commit": snap.Commit, "files": len(files)})
		_, n, err := hub.Download(ctx, fetch.Model, snap, files, f.modelDir)
		facts.Bytes += n
		return err
	case f.modelImage != "":
		client, err := s.registry(f.credentials)
		if err != nil {
			return err
		}
		pulled, err := client.Pull(ctx, f.modelImage, f.modelDir, f.budget)
		if err != nil {
			return err
		}
		facts.BaseRevision = pulled.Digest
		if facts.BaseModel == "" {
			facts.BaseModel = f.modelImage
		}
		for _, n := range pulled.Files {
			facts.Bytes += n
		}
	}
	return nil
}
