// SPDX-License-Identifier: Apache-2.0

package conditions_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
)

func TestVerdictsAreExclusive(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                        string
		mark                        func(conditions.Object, string, string)
		ready, reconciling, stalled bool
	}{
		{"ready", conditions.MarkReady, true, false, false},
		{"reconciling", conditions.MarkReconciling, false, true, false},
		{"stalled", conditions.MarkStalled, false, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
			conditions.MarkReady(w, "Before", "")
			tc.mark(w, "Why", "because")
			assert.Equal(t, tc.ready, conditions.IsTrue(w, conditions.Ready))
			assert.Equal(t, tc.reconciling, conditions.IsTrue(w, conditions.Reconciling))
			assert.Equal(t, tc.stalled, conditions.IsTrue(w, conditions.Stalled))
			for _, c := range w.Status.Conditions {
				assert.Equal(t, int64(3), c.ObservedGeneration)
				assert.Equal(t, "Why", c.Reason)
			}
		})
	}
}

func TestSetKeepsTheTransitionTime(t *testing.T) {
	t.Parallel()
	w := &kaitov1alpha1.Workspace{}
	conditions.False(w, "X", "One", "first")
	before := metav1.Unix(1, 0)
	w.Status.Conditions[0].LastTransitionTime = before
	conditions.False(w, "X", "Two", "second")
	require.NotNil(t, conditions.Get(w, "X"))
	assert.Equal(t, before, conditions.Get(w, "X").LastTransitionTime)
	assert.Equal(t, "Two", conditions.Get(w, "X").Reason)
}

func TestLongMessagesAreShortened(t *testing.T) {
	t.Parallel()
	w := &kaitov1alpha1.Workspace{}
	conditions.False(w, "X", "Long", strings.Repeat("é", 5000))
	message := conditions.Get(w, "X").Message
	assert.LessOrEqual(t, len(message), 4096)
	assert.True(t, utf8.ValidString(message))
}

func TestMessagesContainNoSignature(t *testing.T) {
	t.Parallel()
	w := &kaitov1alpha1.Workspace{}
	conditions.False(w, "X", "Why", `Get "https://user:s3cret@host.example/a?sig=s3cret": refused`)
	assert.Equal(t, `Get "https://host.example/a?…": refused`, conditions.Get(w, "X").Message)
}
