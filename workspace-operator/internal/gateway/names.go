// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxListed bounds the names in an error.
const maxListed = 20

// listModels returns the names that the engine answers to: the model's, and those of its adapters.
func (g *Gateway) listModels(ctx context.Context) ([]string, error) {
	body, err := g.get(ctx, "/v1/models", maxProbeBytes)
	if err != nil {
		return nil, err
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, errors.New("the engine's /v1/models is not a list of models")
	}
	var names []string
	for _, model := range list.Data {
		names = append(names, model.ID)
	}
	return names, nil
}

// nameModels adds the names that there are to the engine's refusal of one that it does not have.
func (g *Gateway) nameModels(ctx context.Context, refusal *apiError) {
	if refusal.status != http.StatusNotFound || !strings.Contains(refusal.message, "The model ") {
		return
	}
	names, err := g.listModels(ctx)
	if err != nil || len(names) == 0 {
		return // the engine's own answer is right, only shorter
	}
	slices.Sort(names)
	more := ""
	if len(names) > maxListed {
		names, more = names[:maxListed], ", …"
	}
	// From 0.32 on, vLLM lists the names of the base model itself, without those of the adapters.
	message, _, _ := strings.Cut(refusal.message, " Valid aliases: ")
	refusal.message = message + " Available: " + strings.Join(names, ", ") + more + "."
	refusal.code, refusal.param = "model_not_found", "model"
}

// shapeError puts an error of the engine into the form of OpenAI's API where it has another: that of its web framework,
// or plain text. It adds the names that there are to the answer that the engine does not have a model.
func (g *Gateway) shapeError(res *http.Response) error {
	if res.StatusCode < 400 || res.Header.Get("Content-Encoding") != "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxProbeBytes))
	if err != nil {
		return err
	}
	if len(body) == maxProbeBytes { // no error of the engine's is this long: it passes as it is
		res.Body = &joined{Reader: io.MultiReader(bytes.NewReader(body), res.Body), Closer: res.Body}
		return nil
	}
	_ = res.Body.Close() // read only
	refusal := engineRefusal(res.StatusCode, body)
	before := refusal.message
	if g.nameModels(res.Request.Context(), refusal); refusal.message != before || !isError(body) {
		if body, err = json.Marshal(refusal.body()); err != nil {
			return err
		}
		res.Header.Set("Content-Type", "application/json")
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// isError reports whether a body has the form {"error": {"message": …}}, which OpenAI's and Anthropic's clients read.
func isError(body []byte) bool {
	var shape struct {
		Error struct {
			Message *string `json:"message"`
		} `json:"error"`
	}
	return json.Unmarshal(body, &shape) == nil && shape.Error.Message != nil
}

// joined is a body whose beginning was read already.
type joined struct {
	io.Reader
	io.Closer
}
