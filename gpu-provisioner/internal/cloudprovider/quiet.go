// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"errors"
	"slices"

	"github.com/go-logr/logr"
	"sigs.k8s.io/karpenter/pkg/events"
)

// missingTaint is the message that Karpenter logs as an error when a Node registers without the taint
// karpenter.sh/unregistered. Agent pools cannot have the taint, because AKS does not allow the removal of a pool's
// taint.
const missingTaint = "node claim registration error"

// Quiet returns a logger that logs errors which only mean "not yet" at the debug level. A provider can report "not yet"
// to Karpenter only as an error, and Karpenter's controllers log it as one.
func Quiet(l logr.Logger) logr.Logger {
	return l.WithSink(&quiet{LogSink: l.GetSink()})
}

type quiet struct{ logr.LogSink }

func (q *quiet) Error(err error, message string, keysAndValues ...any) {
	var pending *PendingError
	var doubt *DoubtError
	if !errors.As(err, &pending) && !errors.As(err, &doubt) && message != missingTaint {
		q.LogSink.Error(err, message, keysAndValues...)
		return
	}
	if q.Enabled(1) {
		q.Info(1, "Not yet", append(keysAndValues, "message", err.Error())...)
	}
}

func (q *quiet) WithValues(keysAndValues ...any) logr.LogSink {
	return &quiet{LogSink: q.LogSink.WithValues(keysAndValues...)}
}

func (q *quiet) WithName(name string) logr.LogSink {
	return &quiet{LogSink: q.LogSink.WithName(name)}
}

// Events returns a recorder for Karpenter's events. It drops the event that belongs to missingTaint, which would be
// recorded for each Node and needs no action. It records each reason why a drain waits: Karpenter considers events of
// one Node with one reason equal, so that "1 pods are waiting to be evicted" would hide the name of the pod's
// disruption budget.
func Events(r events.Recorder) events.Recorder { return &coreEvents{Recorder: r} }

type coreEvents struct{ events.Recorder }

func (c *coreEvents) Publish(all ...events.Event) {
	for _, e := range all {
		switch e.Reason {
		case events.UnregisteredTaintMissing:
			continue
		case events.FailedDraining:
			e.DedupeValues = append(slices.Clone(e.DedupeValues), e.Message)
		}
		c.Recorder.Publish(e)
	}
}
