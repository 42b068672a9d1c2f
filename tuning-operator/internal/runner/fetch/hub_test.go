// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/fetch"
)

const pinned = "0123456789abcdef0123456789abcdef01234567"

// hubOrigin is a HuggingFace mirror with one gated model and one dataset.
func hubOrigin(t *testing.T, files map[string]string, index string) *origin {
	t.Helper()
	return &origin{script: func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer hf_good" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if strings.HasPrefix(r.URL.Path, "/api/") {
			assert.Equal(t, "true", r.URL.Query().Get("blobs"))
			if strings.HasSuffix(r.URL.Path, "/revision/no-such") {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			_, _ = w.Write([]byte(index))
			return true
		}
		body, ok := files[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		_, _ = w.Write([]byte(body))
		return true
	}}
}

func newHub(s *setup, token string) *fetch.Hub {
	return &fetch.Hub{
		Endpoint:   strings.TrimSuffix(s.url, "/data.bin?download=true"),
		Token:      token,
		Downloader: s.Downloader,
	}
}

func TestModelIsPinnedToItsCommit(t *testing.T) {
	index := `{"sha":"` + pinned + `","siblings":[
	  {"rfilename":"model.safetensors","size":9,"lfs":{"sha256":"` + hexSum([]byte("the bytes")) + `","size":9}},
	  {"rfilename":"config.json","size":2},{"rfilename":"pytorch_model.bin","size":99},
	  {"rfilename":"original/consolidated.safetensors","size":99},{"rfilename":"README.md","size":5}]}`
	o := hubOrigin(t, map[string]string{
		"/org/model/resolve/" + pinned + "/model.safetensors": "the bytes",
		"/org/model/resolve/" + pinned + "/config.json":       "{}",
	}, index)
	s := newSetup(t, o)
	hub := newHub(s, "hf_good")

	snap, err := hub.Resolve(context.Background(), fetch.Model, "org/model", "main")
	require.NoError(t, err)
	assert.Equal(t, pinned, snap.Commit)
	files, err := fetch.ModelFiles(snap)
	require.NoError(t, err)
	dir := t.TempDir()
	sums, total, err := hub.Download(context.Background(), fetch.Model, snap, files, dir)
	require.NoError(t, err)
	assert.EqualValues(t, 11, total)
	assert.Equal(
		t, map[string]string{"config.json": hexSum([]byte("{}")), "model.safetensors": hexSum([]byte("the bytes"))}, sums,
	)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "neither pickles nor other forms of the weights")
}

func TestHubRefusals(t *testing.T) {
	for name, c := range map[string]struct{ id, revision, token, index, reason, says string }{
		"no token for a gated model":   {id: "org/model", token: "", reason: tuningv1alpha1.ReasonSourceDenied, says: "licence"},
		"an unknown revision":          {id: "org/model", revision: "no-such", token: "hf_good", reason: tuningv1alpha1.ReasonSourceNotFound, says: "no-such"},
		"an ID with dots":              {id: "../../admin", token: "hf_good", reason: tuningv1alpha1.ReasonSourceInvalid, says: "organisation/name"},
		"a file outside of its folder": {id: "org/model", token: "hf_good", index: `{"sha":"` + pinned + `","siblings":[{"rfilename":"../../etc/passwd"}]}`, reason: tuningv1alpha1.ReasonSourceInvalid, says: "etc/passwd"},
		"an answer without a commit":   {id: "org/model", token: "hf_good", index: `{}`, reason: tuningv1alpha1.ReasonSourceInvalid, says: "HF_ENDPOINT"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, hubOrigin(t, nil, c.index))
			_, err := newHub(s, c.token).Resolve(context.Background(), fetch.Model, c.id, c.revision)
			require.Error(t, err)
			f := fault.Of(err, "Unsorted")
			assert.Equal(t, c.reason, f.Reason)
			assert.True(t, f.Permanent)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestPickledWeightsAreRefused(t *testing.T) {
	_, err := fetch.ModelFiles(
		fetch.Snapshot{
			ID:     "org/model",
			Commit: pinned,
			Files:  []fetch.HubFile{{Path: "pytorch_model.bin"}, {Path: "config.json"}},
		},
	)
	assert.ErrorContains(t, err, "safetensors")
}

func TestDatasetFiles(t *testing.T) {
	for name, c := range map[string]struct{ have, want []string }{
		"parquet beats the rest": {[]string{"data/train-00000-of-00001.parquet", "train.jsonl"}, []string{"data/train-00000-of-00001.parquet"}},
		"held-out splits are omitted": {[]string{"data/test-00000.parquet", "data/train-00000.parquet", "validation/x.parquet", "contest.parquet"},
			[]string{"data/train-00000.parquet", "contest.parquet"}},
		"metadata is omitted": {[]string{"dataset_infos.json", "train.csv"}, []string{"train.csv"}},
	} {
		t.Run(name, func(t *testing.T) {
			var snap fetch.Snapshot
			for _, p := range c.have {
				snap.Files = append(snap.Files, fetch.HubFile{Path: p})
			}
			files, err := fetch.DatasetFiles(snap)
			require.NoError(t, err)
			var got []string
			for _, f := range files {
				got = append(got, f.Path)
			}
			assert.Equal(t, c.want, got)
		})
	}
	_, err := fetch.DatasetFiles(fetch.Snapshot{ID: "org/data", Files: []fetch.HubFile{{Path: "README.md"}}})
	assert.ErrorContains(t, err, "org/data")
}

func TestHubDatasetKeepsItsFolders(t *testing.T) {
	o := hubOrigin(
		t,
		map[string]string{
			"/datasets/org/data/resolve/" + pinned + "/data/train%20x.jsonl": "wrong",
			"/datasets/org/data/resolve/" + pinned + "/data/train x.jsonl":   `{"text":"a"}`,
		},
		`{"sha":"`+pinned+`","siblings":[{"rfilename":"data/train x.jsonl","size":12}]}`,
	)
	s := newSetup(t, o)
	hub := newHub(s, "hf_good")
	snap, err := hub.Resolve(context.Background(), fetch.Dataset, "org/data", "")
	require.NoError(t, err)
	dir := t.TempDir()
	_, _, err = hub.Download(context.Background(), fetch.Dataset, snap, snap.Files, dir)
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(dir, "data", "train x.jsonl"))
}
