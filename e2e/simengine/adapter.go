// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
)

// weightsFile is the file of an adapter's weights, as PEFT writes it.
const weightsFile = "adapter_model.safetensors"

// Adapter is a LoRA adapter that the engine serves under a name of its own.
type Adapter struct {
	Name string
	// Path is the adapter's folder.
	Path string
	// Digest tells who answered; where it is empty it is made of the folder's weights: "sha256:" and 64 hexadecimal
	// digits.
	Digest string
}

// errNoAdapter says that an adapter's folder has no weights.
type errNoAdapter struct{ name, path string }

func (e errNoAdapter) Error() string {
	return fmt.Sprintf("Loading lora %s failed: No adapter found for %s", e.name, e.path)
}

// addAdapter reads the adapter's digest, where it has none, and serves it; inPlace lets it replace one of the same
// name.
func (e *Engine) addAdapter(a Adapter, inPlace bool) error {
	if a.Name == "" || (a.Path == "" && a.Digest == "") {
		return errors.New("Both 'lora_name' and 'lora_path' must be provided.") //nolint:staticcheck // vLLM's words
	}
	if a.Digest == "" {
		digest, err := fileDigest(filepath.Join(a.Path, weightsFile))
		if errors.Is(err, fs.ErrNotExist) {
			return errNoAdapter{a.Name, a.Path}
		}
		if err != nil {
			return err
		}
		a.Digest = digest
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	at := slices.IndexFunc(e.adapters, func(other Adapter) bool { return other.Name == a.Name })
	switch {
	case at < 0:
		e.adapters = append(e.adapters, a)
	case !inPlace:
		return fmt.Errorf( //nolint:staticcheck // vLLM's message
			"The lora adapter '%s' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.",
			a.Name,
		)
	default:
		e.adapters[at] = a
	}
	return nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

type loraRequest struct {
	Name    string `json:"lora_name"`
	Path    string `json:"lora_path"`
	InPlace bool   `json:"load_inplace"`
}

func (e *Engine) loadAdapter(w http.ResponseWriter, r *http.Request) {
	req := readRequest[loraRequest](w, r)
	if req == nil {
		return
	}
	err := e.addAdapter(Adapter{Name: req.Name, Path: req.Path}, req.InPlace)
	var missing errNoAdapter
	switch {
	case errors.As(err, &missing):
		writeError(w, http.StatusNotFound, "NotFoundError", "", err.Error())
	case err != nil:
		writeError(w, http.StatusBadRequest, "InvalidUserInput", "", err.Error())
	default:
		writeText(w, fmt.Sprintf("Success: LoRA adapter '%s' added successfully.", req.Name))
	}
}

func (e *Engine) unloadAdapter(w http.ResponseWriter, r *http.Request) {
	req := readRequest[loraRequest](w, r)
	if req == nil {
		return
	}
	if req.Name == "" {
		writeError(
			w, http.StatusBadRequest, "InvalidUserInput", "", "'lora_name' needs to be provided to unload a LoRA adapter.",
		)
		return
	}
	e.mu.Lock()
	before := len(e.adapters)
	e.adapters = slices.DeleteFunc(e.adapters, func(a Adapter) bool { return a.Name == req.Name })
	found := len(e.adapters) < before
	e.mu.Unlock()
	if !found {
		writeError(
			w, http.StatusNotFound, "NotFoundError", "", fmt.Sprintf("The lora adapter '%s' cannot be found.", req.Name),
		)
		return
	}
	writeText(w, fmt.Sprintf("Success: LoRA adapter '%s' removed successfully.", req.Name))
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text) // an error means that the client is gone
}

type modelCard struct {
	ID          string  `json:"id"`
	Object      string  `json:"object"`
	Created     int64   `json:"created"`
	OwnedBy     string  `json:"owned_by"`
	Root        string  `json:"root"`
	Parent      *string `json:"parent"`
	MaxModelLen *int    `json:"max_model_len"`
}

// listModels answers with the model under each of its names and with the adapters.
func (e *Engine) listModels(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	adapters := slices.Clone(e.adapters)
	e.mu.Unlock()
	created := e.loaded.Unix()
	cards := []modelCard{}
	for _, name := range e.opts.ServedNames {
		cards = append(
			cards,
			modelCard{
				ID:          name,
				Object:      "model",
				Created:     created,
				OwnedBy:     "vllm",
				Root:        e.opts.Model,
				MaxModelLen: &e.opts.MaxModelLen,
			},
		)
	}
	for _, a := range adapters {
		cards = append(
			cards,
			modelCard{
				ID:      a.Name,
				Object:  "model",
				Created: created,
				OwnedBy: "vllm",
				Root:    a.Path,
				Parent:  &e.opts.ServedNames[0],
			},
		)
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": cards})
}
