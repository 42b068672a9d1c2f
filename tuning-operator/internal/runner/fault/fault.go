// SPDX-License-Identifier: Apache-2.0

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
	// Permanent is true if the same spec would fail in the same way again.
	Permanent bool
	Err       error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// Permanent returns a Fault that another attempt would meet again.
func Permanent(reason, format string, args ...any) error {
	return &Fault{Reason: reason, Permanent: true, Err: fmt.Errorf(format, args...)}
}

// Transient returns a Fault that a later attempt may not meet.
func Transient(reason, format string, args ...any) error {
	return &Fault{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Of returns the outermost Fault of an error, or derives one from a known error.
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

// HTTPStatus returns the Fault for the status of a source's answer. Errors of the client are permanent, those of the
// server are transient.
func HTTPStatus(status int, url string) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return Permanent(
			tuningv1alpha1.ReasonSourceDenied,
			"%s answered %d: the credentials are missing or have no access; "+
				"set accessSecret to a Secret with a token that may read the source, and accept the licence of a gated model",
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
	return Permanent(tuningv1alpha1.ReasonSourceNotFound, "%s answered %d instead of a file", url, status)
}
