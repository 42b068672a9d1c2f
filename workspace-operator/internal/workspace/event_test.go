// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/workspace-operator/internal/serving"
)

func TestALongMessageStillBecomesAnEvent(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w := inferenceWorkspace(namespace, "long")
	w.Annotations = map[string]string{serving.AnnotationInferencePool: strings.Repeat("é", 1500)}
	create(t, w)
	note := ""
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var events eventsv1.EventList
		require.NoError(c, shared.client.List(t.Context(), &events, client.InNamespace(namespace)))
		for _, e := range events.Items {
			if e.Reason == kaitov1alpha1.ReasonInvalidSpec {
				note = e.Note
			}
		}
		assert.NotEmpty(c, note, "the API server refuses a note of more than 1024 bytes")
	}, eventually.Long, eventually.Tick)
	assert.Greater(t, len(note), 1000)
	assert.LessOrEqual(t, len(note), 1024)
	assert.True(t, utf8.ValidString(note))
	assert.NotContains(t, note, "\uFFFD")
}

func TestEachStepIsANormalEvent(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	w := inferenceWorkspace(namespace, "steps")
	create(t, w)
	machine := eventuallyMachines(t, w, 1)[0]
	published := func(want string) (all []string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			var events eventsv1.EventList
			require.NoError(c, shared.client.List(t.Context(), &events, client.InNamespace(namespace)))
			all = nil
			for _, e := range events.Items {
				if e.Regarding.Kind == "Workspace" {
					all = append(all, e.Type+" "+e.Reason)
				}
			}
			assert.Contains(c, all, want)
		}, eventually.Long, eventually.Tick)
		return all
	}
	published("Normal " + kaitov1alpha1.ReasonProvisioning)
	launch(t, &machine, "1")
	all := published("Normal " + kaitov1alpha1.ReasonReady)
	// The engine may answer before the status says that it starts.
	all = slices.DeleteFunc(all, func(e string) bool { return e == "Normal "+kaitov1alpha1.ReasonStarting })
	assert.Len(t, all, 2, all)
}

func TestAContextBelowTheModelsIsNoted(t *testing.T) {
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "short")
	w.Inference.Preset.Name, w.Resource.InstanceType = "llama-3.1-8b-instruct", "Standard_NV36ads_A10_v5"
	create(t, w)
	machine := eventuallyMachines(t, w, 1)[0]
	launch(t, &machine, "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		if assert.NotNil(c, w.Status.Plan) {
			assert.Regexp(c, `^\[the context is \d+ of the model's 131072 tokens`, w.Status.Plan.Warnings)
		}
		ready := conditions.Get(w, kaitov1alpha1.ConditionResourceReady)
		if assert.NotNil(c, ready) {
			assert.Regexp(c, "are usable. Note: the context is ", ready.Message)
		}
	})
}
