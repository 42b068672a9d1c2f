// SPDX-License-Identifier: Apache-2.0

package events

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"kaito.sh/shared/excerpt"
)

// action is the action of every event: reconcilers do nothing but reconcile.
const action = "Reconcile"

// Publish publishes an event about an object. eventType is corev1.EventTypeNormal or corev1.EventTypeWarning. The
// message is shortened to the length of a note, and URLs in it lose their secrets.
func Publish(recorder events.EventRecorder, about runtime.Object, eventType, reason, message string) {
	recorder.Eventf(about, nil, eventType, reason, action, "%s", excerpt.Note(message))
}
