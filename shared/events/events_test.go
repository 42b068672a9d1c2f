// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	clientgoevents "k8s.io/client-go/tools/events"

	"kaito.sh/shared/events"
)

func TestPublishShortensTheNoteAndRemovesSecrets(t *testing.T) {
	t.Parallel()
	recorder := clientgoevents.NewFakeRecorder(2)
	events.Publish(recorder, &corev1.Pod{}, corev1.EventTypeWarning, "Failed", "see https://host.example/a?sig=s3cret 100%d")
	assert.Equal(t, "Warning Failed see https://host.example/a?… 100%d", <-recorder.Events)
	events.Publish(recorder, &corev1.Pod{}, corev1.EventTypeNormal, "Done", strings.Repeat("x", 2000))
	assert.Len(t, <-recorder.Events, len("Normal Done ")+1024)
}
