// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"slices"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

// failures are the reasons that a termination message may give for a failed attempt. The reason becomes the reason of a
// condition and a label of a metric. Any other text is refused, because each one would be another time series in the
// operator's memory.
var failures = []string{
	// Any step:
	tuningv1alpha1.ReasonInterrupted,
	tuningv1alpha1.ReasonCredentialsInvalid,
	tuningv1alpha1.ReasonVolumeFull,
	// Fetch:
	tuningv1alpha1.ReasonSourceForbidden,
	tuningv1alpha1.ReasonSourceDenied,
	tuningv1alpha1.ReasonSourceNotFound,
	tuningv1alpha1.ReasonSourceTooLarge,
	tuningv1alpha1.ReasonSourceUnavailable,
	tuningv1alpha1.ReasonSourceInvalid,
	tuningv1alpha1.ReasonChecksumMismatch,
	tuningv1alpha1.ReasonDatasetInvalid,
	tuningv1alpha1.ReasonFetchFailed,
	// Train:
	tuningv1alpha1.ReasonPreempted,
	tuningv1alpha1.ReasonConfigInvalid,
	tuningv1alpha1.ReasonConfigContradiction,
	tuningv1alpha1.ReasonOutOfMemory,
	tuningv1alpha1.ReasonGPUOutOfMemory,
	tuningv1alpha1.ReasonTrainingDiverged,
	tuningv1alpha1.ReasonTrainingFailed,
	tuningv1alpha1.ReasonCheckpointInvalid,
	// Push:
	tuningv1alpha1.ReasonOutputInvalid,
	tuningv1alpha1.ReasonOutputDenied,
	tuningv1alpha1.ReasonPushFailed,
}

// known returns whether a container may give this reason.
func known(reason string) bool { return slices.Contains(failures, reason) }
