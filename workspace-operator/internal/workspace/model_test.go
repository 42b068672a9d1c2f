// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/workspace"
)

// modelHub has acme/tiny, and a gated model; answers wait for held.
func modelHub(t *testing.T, held <-chan struct{}) workspace.Options {
	t.Helper()
	const commit = "0123456789abcdef0123456789abcdef01234567"
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
		switch path := r.URL.Path; {
		case path == "/api/models/acme/tiny/revision/main",
			path == "/api/models/acme/tiny/revision/"+commit,
			strings.HasPrefix(path, "/api/models/acme/gated/"):
			_, _ = fmt.Fprintf(w, `{"sha": %q, "siblings": [{"rfilename": "model.safetensors", "size": 2000000000}]}`, commit)
		case path == "/acme/tiny/resolve/"+commit+"/config.json":
			_, _ = fmt.Fprint(
				w,
				`{"architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 4096}`,
			)
		case strings.HasPrefix(path, "/acme/gated/"):
			w.Header().Set("X-Error-Code", "GatedRepo")
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Header().Set("X-Error-Code", "RepoNotFound")
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	o := options()
	o.ModelHub, o.ModelHubHTTP = server.URL, server.Client()
	return o
}

func TestModelOutsideTheCatalogueIsServedAtItsCommit(t *testing.T) {
	held := make(chan struct{})
	start(t, modelHub(t, held))
	w := inferenceWorkspace(newNamespace(t), "foreign")
	w.Inference.Preset.Name = "acme/tiny"
	create(t, w)
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, kaitov1alpha1.ReasonModelLookup)
		hasCondition(c, w, kaitov1alpha1.ConditionResourceReady, metav1.ConditionFalse, kaitov1alpha1.ReasonModelLookup)
	})
	assert.Empty(t, machinesOf(t, w), "nothing is rented before the model is known")

	close(held)
	machine := eventuallyMachines(t, w, 1)[0]
	launch(t, &machine, "1")
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
	assert.Equal(t, "acme/tiny", got.Status.Plan.Model)
	assert.Equal(t, "0123456789abcdef0123456789abcdef01234567", got.Status.Plan.Revision)
	d := &appsv1.Deployment{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), d))
	assert.Contains(
		t, fmt.Sprint(d.Spec.Template.Spec), "0123456789abcdef0123456789abcdef01234567",
		"the engine fetches the commit that was planned with",
	)
}

func TestWhyAModelOutsideTheCatalogueCannotBePlanned(t *testing.T) {
	held := make(chan struct{})
	close(held)
	start(t, modelHub(t, held))
	namespace := newNamespace(t)
	for model, reason := range map[string]string{"acme/gated": kaitov1alpha1.ReasonModelAccessDenied, "acme/nothing": kaitov1alpha1.ReasonModelNotFound} {
		w := inferenceWorkspace(namespace, strings.TrimPrefix(model, "acme/"))
		w.Inference.Preset.Name = model
		create(t, w)
		eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
			hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, reason)
			hasCondition(c, w, "Stalled", metav1.ConditionTrue, reason)
		})
		assert.Empty(t, machinesOf(t, w))
	}
}

func TestAnUnreachableHubIsSaidAndGoesOn(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	o := options()
	o.ModelHub, o.ModelHubHTTP = server.URL, server.Client()
	server.Close() // the port is closed
	start(t, o)
	w := inferenceWorkspace(newNamespace(t), "offline")
	w.Inference.Preset.Name = "acme/tiny"
	create(t, w)
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, kaitov1alpha1.ReasonModelUnreachable)
		hasCondition(c, w, "Reconciling", metav1.ConditionTrue, kaitov1alpha1.ReasonModelUnreachable)
	})
}
