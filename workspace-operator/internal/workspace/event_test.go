// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
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
