// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"errors"
	"slices"

	"github.com/go-logr/logr"
	"sigs.k8s.io/karpenter/pkg/events"
)

// missingTaint is how core logs, at the error level, that a Node joined without the taint karpenter.sh/unregistered.
// Agent pools cannot have it: AKS refuses to remove a taint that the pool declares.
const missingTaint = "node claim registration error"

// Quiet returns a logger that tells of what is no error at the debug level. Core can only be told "not yet" by an
// error, and its controllers log errors as such.
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

// Events is where core tells of its events. It drops the one that goes with missingTaint, which is about every Node of
// every agent pool and which nobody can act on. And it tells all of why a drain goes on: core takes all events of one
// Node with one reason for the same, so that "1 pods are waiting to be evicted" would hide which pod's disruption
// budget it waits for.
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
