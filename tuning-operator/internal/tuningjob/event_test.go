// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/eventually"
)

// note waits for the event of a reason, and returns its note.
func (s *story) note(reason string) string {
	s.Helper()
	note := ""
	require.EventuallyWithT(s, func(c *assert.CollectT) {
		var events eventsv1.EventList
		require.NoError(c, shared.client.List(s.Context(), &events, client.InNamespace(s.namespace)))
		for _, e := range events.Items {
			if e.Reason == reason {
				note = e.Note
			}
		}
		assert.NotEmpty(c, note)
	}, eventually.Long, eventually.Tick)
	return note
}

func TestLongEventsAreValidUTF8(t *testing.T) {
	for _, before := range []string{"", "x"} { // a character has two bytes: one of the two notes would end in its middle
		s := tell(t)
		s.submit(func(tj *tuningv1alpha1.TuningJob) {
			tj.Spec.Overrides = &runtime.RawExtension{
				Raw: []byte(`{"DatasetConfig":{"dataset_path":"../` + before + strings.Repeat("é", 1500) + `"}}`),
			}
		})
		s.reaches(tuningv1alpha1.ReasonConfigInvalid)
		note := s.note(tuningv1alpha1.ReasonConfigInvalid)
		assert.Greater(t, len(note), 1000)
		assert.LessOrEqual(t, len(note), 1024)
		assert.True(t, utf8.ValidString(note))
		assert.NotContains(t, note, "\uFFFD")
	}
}
