// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	terminatorevents "sigs.k8s.io/karpenter/pkg/controllers/node/termination/terminator/events"
	"sigs.k8s.io/karpenter/pkg/events"

	"kaito.sh/gpu-provisioner/internal/cloudprovider"
)

func TestEachReasonWhyANodeIsNotDrainedIsToldOnce(t *testing.T) {
	told := record.NewFakeRecorder(10)
	recorder := cloudprovider.Events(events.NewRecorder(told))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}
	for range 3 {
		recorder.Publish(
			terminatorevents.NodeFailedToDrain(node, errors.New("1 pods are waiting to be evicted")),
			terminatorevents.NodeFailedToDrain(node, errors.New("evicting pod violates a PDB")),
			events.Event{
				InvolvedObject: node,
				Type:           corev1.EventTypeWarning,
				Reason:         events.UnregisteredTaintMissing,
				Message:        "no taint",
			},
		)
	}
	close(told.Events)
	var got []string
	for e := range told.Events {
		got = append(got, e)
	}
	assert.Equal(t, []string{
		"Warning FailedDraining Failed to drain node, 1 pods are waiting to be evicted",
		"Warning FailedDraining Failed to drain node, evicting pod violates a PDB",
	}, got)
}
