// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types of a TuningJob.
const (
	// ConditionReady is True when the adapter is in the output.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the job makes progress or waits without needing a person.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when a person must act.
	ConditionStalled = "Stalled"
	// ConditionRunning is True while pods run.
	ConditionRunning = "Running"
	// ConditionSucceeded is True when the adapter is in the output.
	ConditionSucceeded = "Succeeded"
	// ConditionFailed is True when the job has ended without an adapter.
	ConditionFailed = "Failed"
)

// FieldManager is the field manager of the tuning-operator.
const FieldManager = "tuning-operator"
