package cloudprovider

import (
	"errors"

	"github.com/go-logr/logr"
)

// Quiet returns a logger that tells of claims on their way at the debug level. Core can only be told "not yet" by an error, and its
// controller logs errors as such.
func Quiet(l logr.Logger) logr.Logger {
	return l.WithSink(&quiet{LogSink: l.GetSink()})
}

type quiet struct{ logr.LogSink }

func (q *quiet) Error(err error, message string, keysAndValues ...any) {
	var pending *PendingError
	if !errors.As(err, &pending) {
		q.LogSink.Error(err, message, keysAndValues...)
		return
	}
	if q.Enabled(1) {
		q.Info(1, "The claim is on its way", append(keysAndValues, "reason", pending.Reason, "message", pending.Message)...)
	}
}

func (q *quiet) WithValues(keysAndValues ...any) logr.LogSink {
	return &quiet{LogSink: q.LogSink.WithValues(keysAndValues...)}
}

func (q *quiet) WithName(name string) logr.LogSink {
	return &quiet{LogSink: q.LogSink.WithName(name)}
}
