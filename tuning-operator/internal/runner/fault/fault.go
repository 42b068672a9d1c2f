// SPDX-License-Identifier: Apache-2.0

// Package fault gives the runner's failures a type at the seam: why, in a constant that reaches the TuningJob's status
// unchanged, and whether another attempt could end differently.
package fault

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/netguard"
)

// Fault is a failure with its reason.
type Fault struct {
	Reason string
	// Permanent: the same spec fails the same way again.
	Permanent bool
	Err       error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// Permanent is a failure that needs a person.
func Permanent(reason, format string, args ...any) error {
	return &Fault{Reason: reason, Permanent: true, Err: fmt.Errorf(format, args...)}
}

// Transient is a failure that a later attempt may not meet.
func Transient(reason, format string, args ...any) error {
	return &Fault{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Of finds the outermost Fault of an error, or makes one of what is known about it.
func Of(err error, fallback string) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return &Fault{Reason: f.Reason, Permanent: f.Permanent, Err: err}
	}
	var denied *netguard.DeniedError
	switch {
	case errors.As(err, &denied):
		return &Fault{Reason: tuningv1alpha1.ReasonSourceForbidden, Permanent: true, Err: err}
	case errors.Is(err, syscall.ENOSPC):
		return &Fault{Reason: tuningv1alpha1.ReasonVolumeFull, Permanent: true, Err: err}
	}
	return &Fault{Reason: fallback, Err: err}
}

// HTTPStatus sorts the answers of a source: the client's fault is permanent, the server's is not.
func HTTPStatus(status int, url string) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return Permanent(
			tuningv1alpha1.ReasonSourceDenied,
			"%s answered %d: the source needs credentials, or these have no access; "+
				"set accessSecret to a secret with a token that may read it, and accept the model's licence where it has one",
			url,
			status,
		)
	case http.StatusNotFound, http.StatusGone:
		return Permanent(tuningv1alpha1.ReasonSourceNotFound, "%s answered %d: check the name and the revision", url, status)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return Transient(tuningv1alpha1.ReasonSourceUnavailable, "%s answered %d", url, status)
	}
	if status >= 500 {
		return Transient(tuningv1alpha1.ReasonSourceUnavailable, "%s answered %d", url, status)
	}
	return Permanent(tuningv1alpha1.ReasonSourceNotFound, "%s answered %d, which is no file", url, status)
}
