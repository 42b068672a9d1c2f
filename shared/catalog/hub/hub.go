// SPDX-License-Identifier: Apache-2.0

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

// DefaultEndpoint is the URL of HuggingFace. HF_ENDPOINT usually sets that of a mirror.
const DefaultEndpoint = "https://huggingface.co"

// Limits of the answers in bytes.
const (
	maxInfo   = 8 << 20  // the list of a repository's files
	maxConfig = 1 << 20  // config.json
	maxIndex  = 64 << 20 // model.safetensors.index.json names every tensor
)

// Reason classifies an error.
type Reason string

// The reasons.
const (
	NotFound    Reason = "NotFound"    // no such repository or revision, or a private one
	Denied      Reason = "Denied"      // gated: the token is missing, or its owner has not accepted the licence
	Unreachable Reason = "Unreachable" // no answer, or an error of the server: a retry may succeed
	Unusable    Reason = "Unusable"    // the answer lacks data that a plan needs
)

// Error is the error of this package, besides *catalog.ConfigError.
type Error struct {
	Reason Reason
	ID     string
	Err    error
}

func (e *Error) Error() string {
	remedy := map[Reason]string{
		NotFound:    "check the name and the revision, and the token if the repository is private",
		Denied:      "accept the licence on the model's page, and set HF_TOKEN to a token of that account",
		Unreachable: "the request is retried; without access to the internet, add the model to the catalogue",
		Unusable:    "serve the model with inference.template, or add it to the catalogue",
	}
	return fmt.Sprintf("reading model %s: %s: %v; %s", e.ID, e.Reason, e.Err, remedy[e.Reason])
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable returns whether a retry may succeed.
func (e *Error) Retryable() bool { return e.Reason == Unreachable }

// Client reads from an endpoint. The zero value uses HuggingFace, http.DefaultClient and no token.
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

// Model reads org/model at a revision (empty: main). The result has the commit of the revision.
func (c Client) Model(ctx context.Context, known *catalog.Catalog, ref catalog.Reference) (catalog.Model, error) {
	if !ref.IsRepository() {
		return catalog.Model{}, &Error{NotFound, ref.Name, errors.New("not the name of a repository: use org/model")}
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

// weights returns the size of the weights that the engine loads: that of the index, or of the only file. The sum of all
// files would be wrong for models, such as gpt-oss, whose weights are published twice in different layouts.
func (c Client) weights(ctx context.Context, id, at string, repository info) (int64, error) {
	const single, index = "model.safetensors", "model.safetensors.index.json"
	files := map[string]int64{}
	for _, f := range repository.Siblings {
		files[f.Name] = f.Size
	}
	if _, sharded := files[index]; sharded {
		var document struct {
			Metadata struct {
				TotalSize float64 `json:"total_size"` // some repositories have a float
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

// headerCode distinguishes errors with the same status. Without a token, the hub answers 401 for a gated repository and
// for an unknown one. Source: huggingface_hub, utils/_http.py.
const headerCode = "X-Error-Code"

func judge(response *http.Response) (reason Reason, failed bool) {
	switch response.Header.Get(headerCode) {
	case "RepoNotFound", "RevisionNotFound":
		return NotFound, true
	case "EntryNotFound":
		return Unusable, true // the repository exists, but the file does not
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
		return &Error{Unreachable, id, redact.Error(err)} // the hub redirects to signed URLs
	}
	defer func() { _ = response.Body.Close() }() // errors of reading do not matter
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
