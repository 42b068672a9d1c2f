// SPDX-License-Identifier: Apache-2.0

package sources

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // git's names of commits
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Hub answers for every model with a tiny one, and for every dataset with the same few conversations, in the routes
// that downloads use: https://huggingface.co/docs/hub/api, and /resolve/.
type Hub struct {
	// Token grants access to everything; if it is empty, no token is required.
	Token string

	mux   *http.ServeMux
	mutex sync.Mutex
	taken map[string]int
}

// NewHub makes a hub.
func NewHub(token string) *Hub {
	h := &Hub{Token: token, mux: http.NewServeMux(), taken: map[string]int{}}
	h.mux.HandleFunc("GET /api/{kind}/{organisation}/{name}/revision/{revision}", h.describe)
	h.mux.HandleFunc("GET /{path...}", h.resolve)
	return h
}

// ServeHTTP answers as the hub does.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.Token != "" && r.Header.Get("Authorization") != "Bearer "+h.Token {
		w.Header().Set("X-Error-Code", "GatedRepo")
		http.Error(
			w, "Access to this repository is restricted. You must be authenticated to access it.", http.StatusUnauthorized,
		)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// Taken is how often each file was asked for, by its path.
func (h *Hub) Taken(path string) int {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.taken[path]
}

var fullCommit = regexp.MustCompile(`^[0-9a-f]{40}$`)

// commit returns the commit of a revision. Every commit that a catalogue pins exists.
func commit(repository, revision string) string {
	if fullCommit.MatchString(revision) {
		return revision
	}
	sum := sha1.Sum([]byte(repository + "@" + revision)) //nolint:gosec // a name, as git's
	return hex.EncodeToString(sum[:])
}

func (h *Hub) describe(w http.ResponseWriter, r *http.Request) {
	repository := r.PathValue("organisation") + "/" + r.PathValue("name")
	files, ok := contents(r.PathValue("kind"), repository)
	if !ok {
		http.NotFound(w, r)
		return
	}
	type largeFile struct {
		SHA256 string `json:"sha256"`
		Size   int    `json:"size"`
	}
	type sibling struct {
		Name string     `json:"rfilename"`
		Size int        `json:"size"`
		LFS  *largeFile `json:"lfs,omitempty"`
	}
	var siblings []sibling
	for _, name := range names(files) {
		s := sibling{Name: name, Size: len(files[name])}
		if strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".parquet") {
			sum := sha256.Sum256(files[name])
			s.LFS = &largeFile{SHA256: hex.EncodeToString(sum[:]), Size: s.Size}
		}
		siblings = append(siblings, s)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // an error means that the client is gone
		"id": repository, "sha": commit(repository, r.PathValue("revision")), "gated": h.Token != "", "siblings": siblings,
	})
}

func (h *Hub) resolve(w http.ResponseWriter, r *http.Request) {
	kind := "models"
	path, dataset := strings.CutPrefix(r.PathValue("path"), "datasets/")
	if dataset {
		kind = "datasets"
	}
	repository, rest, _ := strings.Cut(path, "/resolve/")
	revision, file, _ := strings.Cut(rest, "/")
	files, _ := contents(kind, repository)
	content, ok := files[file]
	if !ok && dataset && strings.HasSuffix(file, ".parquet") {
		content, ok = files[conversationsFile], true // data is split into files under many names
	}
	if !ok {
		w.Header().Set("X-Error-Code", "EntryNotFound")
		http.Error(w, "Entry not found", http.StatusNotFound)
		return
	}
	h.mutex.Lock()
	h.taken[r.URL.Path]++
	h.mutex.Unlock()
	sum := sha256.Sum256(content)
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	w.Header().Set("X-Repo-Commit", commit(repository, revision))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func names(files map[string][]byte) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
