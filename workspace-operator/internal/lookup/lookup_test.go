// SPDX-License-Identifier: Apache-2.0

package lookup_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/catalog/hub"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/workspace-operator/internal/lookup"
)

const (
	first  = "0123456789abcdef0123456789abcdef01234567"
	second = "89abcdef0123456789abcdef0123456789abcdef"
	config = `{"architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
		"num_key_value_heads": 8, "max_position_embeddings": 4096, "torch_dtype": "bfloat16"}`
)

// fakeHub speaks as much of the hub's protocol as is asked for: the commit of a branch, files by commit through a
// redirect, and, to who shows no token, 401 for what is gated as for what is not there.
type fakeHub struct {
	mu    sync.Mutex
	head  string
	asked map[string]int
	held  chan struct{} // answers wait for it
	down  bool
}

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked[r.URL.Path]++
	head, held, down := h.head, h.held, h.down
	h.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	refuse := func(status int, code string) {
		w.Header().Set("X-Error-Code", code)
		w.WriteHeader(status)
	}
	path := r.URL.Path
	switch {
	case down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case strings.HasPrefix(path, "/api/models/acme/tiny/revision/"):
		at := strings.TrimPrefix(path, "/api/models/acme/tiny/revision/")
		if at == "main" {
			at = head
		} else if at != first && at != second {
			refuse(http.StatusNotFound, "RevisionNotFound")
			return
		}
		_, _ = fmt.Fprintf(
			w,
			`{"sha": %q, "siblings": [{"rfilename": "config.json"}, {"rfilename": "model.safetensors", "size": 2000000000}]}`,
			at,
		)
	case strings.HasPrefix(path, "/acme/tiny/resolve/"):
		http.Redirect(w, r, "/cdn/config.json", http.StatusTemporaryRedirect)
	case path == "/cdn/config.json":
		_, _ = w.Write([]byte(config))
	case strings.HasPrefix(path, "/api/models/acme/gated/"):
		_, _ = fmt.Fprintf(w, `{"sha": %q, "siblings": [{"rfilename": "model.safetensors", "size": 2000000000}]}`, first)
	case strings.HasPrefix(path, "/acme/gated/"):
		if r.Header.Get("Authorization") == "Bearer token" {
			_, _ = w.Write([]byte(config))
			return
		}
		refuse(http.StatusUnauthorized, "GatedRepo")
	case strings.HasPrefix(path, "/api/models/acme/pickle/"):
		_, _ = fmt.Fprintf(w, `{"sha": %q, "siblings": [{"rfilename": "pytorch_model.bin", "size": 5}]}`, first)
	case strings.HasPrefix(path, "/acme/pickle/"):
		refuse(http.StatusNotFound, "EntryNotFound")
	default:
		refuse(http.StatusUnauthorized, "RepoNotFound")
	}
}

func (h *fakeHub) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *fakeHub) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, count := range h.asked {
		n += count
	}
	return n
}

type fixture struct {
	*lookup.Models
	hub   *fakeHub
	clock *clocktesting.FakePassiveClock
	told  chan types.NamespacedName
}

func setup(t *testing.T, token string) *fixture {
	t.Helper()
	known, err := catalog.Load()
	require.NoError(t, err)
	f := &fixture{
		hub:   &fakeHub{head: first, asked: map[string]int{}},
		clock: clocktesting.NewFakePassiveClock(time.Unix(1000, 0)),
		told:  make(chan types.NamespacedName, 10),
	}
	server := httptest.NewTLSServer(f.hub)
	t.Cleanup(server.Close)
	f.Models = lookup.New(known, hub.Client{HTTP: server.Client(), Endpoint: server.URL, Token: token}, f.clock)
	f.OnResult(func(_ context.Context, name types.NamespacedName) { f.told <- name })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.Start(ctx) // it never fails
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f
}

var asker = types.NamespacedName{Namespace: "ns", Name: "w"}

// answered calls Find, waits for the notification, and calls it again.
func (f *fixture) answered(t *testing.T, name, pinned string) (*catalog.Model, *lookup.Refusal) {
	t.Helper()
	_, refusal := f.Find(asker, name, pinned)
	require.NotNil(t, refusal)
	select {
	case got := <-f.told:
		assert.Equal(t, asker, got)
	case <-time.After(eventually.Long):
		require.Fail(t, "no notification")
	}
	return f.Find(asker, name, pinned)
}

func TestAModelIsFetchedBesideAndPinned(t *testing.T) {
	t.Parallel()
	f := setup(t, "")
	held := make(chan struct{})
	f.hub.set(func() { f.hub.held = held })
	for range 3 {
		m, refusal := f.Find(asker, "acme/tiny", "")
		require.Nil(t, m)
		require.NotNil(t, refusal)
		assert.Equal(t, kaitov1alpha1.ReasonModelLookup, refusal.Reason)
		assert.False(t, refusal.Stalled)
		assert.Zero(t, refusal.Retry, "the Workspace is enqueued instead")
	}
	close(held)
	assert.Equal(t, asker, <-f.told)
	m, refusal := f.Find(asker, "acme/tiny", "")
	require.Nil(t, refusal)
	assert.Equal(t, first, m.Revision, "the commit, not the branch")
	assert.EqualValues(t, 2000000000, m.WeightsBytes)

	requests := f.hub.requests()
	f.hub.set(func() { f.hub.head = second })
	m, refusal = f.Find(asker, "acme/tiny", first)
	require.Nil(t, refusal)
	assert.Equal(t, first, m.Revision, "what was planned with stays, though the branch has moved on")
	assert.Equal(t, requests, f.hub.requests(), "each commit is read once")
}

func TestWhyThereIsNoModelIsTyped(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, model, token, reason, text string
		stalled                          bool
	}{
		{"gated, licence not accepted", "acme/gated", "", kaitov1alpha1.ReasonModelAccessDenied, "accept the licence", true},
		{"no such repository: the hub answers 401", "acme/nothing", "", kaitov1alpha1.ReasonModelNotFound, "check the name", true},
		{"no such revision", "acme/tiny@v9", "", kaitov1alpha1.ReasonModelNotFound, "acme/tiny@v9", true},
		{"no safetensors", "acme/pickle", "", kaitov1alpha1.ReasonModelUnusable, "inference.template", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, test.token)
			m, refusal := f.answered(t, test.model, "")
			require.Nil(t, m)
			require.NotNil(t, refusal)
			assert.Equal(t, test.reason, refusal.Reason)
			assert.Contains(t, refusal.Message, test.text)
			assert.Equal(t, test.stalled, refusal.Stalled)
			assert.Positive(t, refusal.Retry, "a licence may be accepted without any event")
		})
	}
	t.Run("gated, with a token of who has accepted it", func(t *testing.T) {
		t.Parallel()
		m, refusal := setup(t, "token").answered(t, "acme/gated", "")
		require.Nil(t, refusal)
		assert.Equal(t, first, m.Revision)
	})
}

func TestAHubThatDoesNotAnswerIsAskedAgainEverLater(t *testing.T) {
	t.Parallel()
	f := setup(t, "")
	f.hub.set(func() { f.hub.down = true })
	_, refusal := f.answered(t, "acme/tiny", "")
	require.NotNil(t, refusal)
	assert.Equal(t, kaitov1alpha1.ReasonModelUnreachable, refusal.Reason)
	assert.False(t, refusal.Stalled, "it is retried automatically")
	before, requests := refusal.Retry, f.hub.requests()
	_, again := f.Find(asker, "acme/tiny", "")
	assert.Equal(t, before, again.Retry)
	assert.Equal(t, requests, f.hub.requests(), "not before its time")

	f.clock.SetTime(f.clock.Now().Add(refusal.Retry))
	_, refusal = f.answered(t, "acme/tiny", "")
	require.NotNil(t, refusal)
	assert.Greater(t, refusal.Retry, before)

	f.hub.set(func() { f.hub.down = false })
	f.clock.SetTime(f.clock.Now().Add(refusal.Retry))
	_, refusal = f.Find(asker, "acme/tiny", "")
	require.NotNil(t, refusal)
	assert.Equal(t, kaitov1alpha1.ReasonModelUnreachable, refusal.Reason, "the reason stays until there is another")
	<-f.told
	m, refusal := f.Find(asker, "acme/tiny", "")
	require.Nil(t, refusal)
	assert.Equal(t, first, m.Revision)
}

func TestWhatTheCatalogueHasIsAskedOfNobody(t *testing.T) {
	t.Parallel()
	f := setup(t, "")
	for _, name := range []string{"phi-4-mini-instruct", "no-such-short-name", "@", ""} {
		m, refusal := f.Find(asker, name, "")
		assert.Nil(t, m, name)
		assert.Nil(t, refusal, name)
	}
	assert.Zero(t, f.hub.requests())
}

func TestAnOperatorThatMayAskNobodySaysSo(t *testing.T) {
	t.Parallel()
	known, err := catalog.Load()
	require.NoError(t, err)
	m, refusal := lookup.New(known, nil, clocktesting.NewFakePassiveClock(time.Now())).Find(asker, "acme/tiny", "")
	require.Nil(t, m)
	require.NotNil(t, refusal)
	assert.Equal(t, kaitov1alpha1.ReasonModelUnreachable, refusal.Reason)
	assert.True(t, refusal.Stalled)
	assert.Contains(t, refusal.Message, "--model-hub")
}
