// SPDX-License-Identifier: Apache-2.0

// Package hub reads, once, what is published about a model that the catalogue does not have: its commit, its
// config.json and the size of its safetensors. It is for a worker beside a reconciler, never for the reconciler itself:
// it waits for a network.
package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/redact"
)

// DefaultEndpoint is where HuggingFace answers; HF_ENDPOINT is the usual name of another one.
const DefaultEndpoint = "https://huggingface.co"

// Limits of what is read into memory.
const (
	maxInfo   = 8 << 20  // the list of a repository's files
	maxConfig = 1 << 20  // config.json
	maxIndex  = 64 << 20 // model.safetensors.index.json names every tensor
)

// Reason is why a model could not be read.
type Reason string

// The reasons.
const (
	NotFound    Reason = "NotFound"    // no such repository or revision, or a private one
	Denied      Reason = "Denied"      // gated: the token is missing, or its owner has not accepted the licence
	Unreachable Reason = "Unreachable" // no answer, or the server's fault: worth another try
	Unusable    Reason = "Unusable"    // answered, but not with what a plan needs
)

// Error is the only error of this package, besides *catalog.ConfigError.
type Error struct {
	Reason Reason
	ID     string
	Err    error
}

func (e *Error) Error() string {
	remedy := map[Reason]string{
		NotFound:    "check the name and the revision, and the token where the repository is private",
		Denied:      "accept the licence on the model's page, and see that who reads it has a token of that account (HF_TOKEN)",
		Unreachable: "it is tried again; without a way to the internet, add the model to the catalogue",
		Unusable:    "serve the model by inference.template, or add it to the catalogue",
	}
	return fmt.Sprintf("reading model %s: %s: %v; %s", e.ID, e.Reason, e.Err, remedy[e.Reason])
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable says whether the same question may be answered later.
func (e *Error) Retryable() bool { return e.Reason == Unreachable }

// Client reads from one endpoint. Its zero value reads HuggingFace with http.DefaultClient and no token.
type Client struct {
	HTTP     *http.Client
	Endpoint string
	Token    string
}

type info struct {
	SHA      string `json:"sha"`
	Siblings []struct {
		Name string `json:"rfilename"`
		Size int64  `json:"size"`
	} `json:"siblings"`
}

// Model reads org/model at a revision (empty: main) and describes it. What comes back is pinned to the commit.
func (c Client) Model(ctx context.Context, known *catalog.Catalog, ref catalog.Reference) (catalog.Model, error) {
	if !ref.IsRepository() {
		return catalog.Model{}, &Error{NotFound, ref.Name, errors.New("not a repository's name, org/model")}
	}
	revision := ref.Revision
	if revision == "" {
		revision = "main"
	}
	var repository info
	if err := c.get(
		ctx, ref.Name, "/api/models/"+ref.Name+"/revision/"+url.PathEscape(revision)+"?blobs=true", maxInfo, &repository,
	); err != nil {
		return catalog.Model{}, err
	}
	if repository.SHA == "" {
		return catalog.Model{}, &Error{Unusable, ref.Name, errors.New("the repository has no commit")}
	}
	at := "/" + ref.Name + "/resolve/" + url.PathEscape(repository.SHA) + "/"
	var config json.RawMessage
	if err := c.get(ctx, ref.Name, at+"config.json", maxConfig, &config); err != nil {
		return catalog.Model{}, err
	}
	bytes, err := c.weights(ctx, ref.Name, at, repository)
	if err != nil {
		return catalog.Model{}, err
	}
	return known.ModelFromConfig(ref.Name, repository.SHA, config, bytes)
}

// weights are what the engine loads: the index's sum, or the only file. Summing all files counts what is published
// twice in other layouts, as gpt-oss is.
func (c Client) weights(ctx context.Context, id, at string, repository info) (int64, error) {
	const single, index = "model.safetensors", "model.safetensors.index.json"
	files := map[string]int64{}
	for _, f := range repository.Siblings {
		files[f.Name] = f.Size
	}
	if _, sharded := files[index]; sharded {
		var document struct {
			Metadata struct {
				TotalSize float64 `json:"total_size"` // some are written as a float
			} `json:"metadata"`
		}
		if err := c.get(ctx, id, at+index, maxIndex, &document); err != nil {
			return 0, err
		}
		return int64(document.Metadata.TotalSize), nil
	}
	if size, found := files[single]; found {
		return size, nil
	}
	return 0, &Error{Unusable, id, errors.New("it has neither " + single + " nor " + index)}
}

// headerCode tells apart what shares a status: to somebody without a token the hub answers 401 for a gated repository
// and for one that is not there (huggingface_hub, utils/_http.py).
const headerCode = "X-Error-Code"

func judge(response *http.Response) (reason Reason, failed bool) {
	switch response.Header.Get(headerCode) {
	case "RepoNotFound", "RevisionNotFound":
		return NotFound, true
	case "EntryNotFound":
		return Unusable, true // the repository is there, and the file is not
	case "GatedRepo":
		return Denied, true
	}
	switch response.StatusCode {
	case http.StatusOK:
		return "", false
	case http.StatusNotFound:
		return NotFound, true
	case http.StatusUnauthorized, http.StatusForbidden:
		return Denied, true
	}
	return Unreachable, true
}

func (c Client) get(ctx context.Context, id, path string, limit int64, into any) error {
	endpoint := strings.TrimRight(c.Endpoint, "/")
	if endpoint == "" {
		endpoint = DefaultEndpoint
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+path, nil)
	if err != nil {
		return &Error{Unusable, id, redact.Error(err)}
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return &Error{Unreachable, id, redact.Error(err)} // the hub redirects to addresses that are signed
	}
	defer func() { _ = response.Body.Close() }() // read to its limit; nothing is left to lose
	if reason, failed := judge(response); failed {
		return &Error{reason, id, fmt.Errorf("GET %s: %s", path, response.Status)}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return &Error{Unreachable, id, err}
	}
	if int64(len(body)) > limit {
		return &Error{Unusable, id, fmt.Errorf("the answer has more than %d bytes", limit)}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &Error{Unusable, id, err}
	}
	return nil
}
