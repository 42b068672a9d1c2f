// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types of a TuningJob.
const (
	// ConditionReady is the verdict: True when the adapter is where it should be.
	ConditionReady = "Ready"
	// ConditionReconciling is True while work goes on.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when a person must act.
	ConditionStalled = "Stalled"
	// ConditionRunning is True while pods run.
	ConditionRunning = "Running"
	// ConditionSucceeded is True when the adapter is where it should be.
	ConditionSucceeded = "Succeeded"
	// ConditionFailed is True when the job has ended without one.
	ConditionFailed = "Failed"
)

// FieldManager owns the fields that the tuning-operator applies.
const FieldManager = "tuning-operator"
