// SPDX-License-Identifier: Apache-2.0

package tuning

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

// Phase is the state of a TuningJob.
type Phase int

const (
	// Waiting: it has not started.
	Waiting Phase = iota
	// Ignored: no operator has acknowledged it in time.
	Ignored
	// Running: its pods run.
	Running
	// Succeeded: the adapter is where it should be.
	Succeeded
	// Failed: it has ended without one.
	Failed
)

// Result is what is read back of a TuningJob: conditions, progress and output, by the contract.
type Result struct {
	Phase Phase
	// Reason and Message are the TuningJob's, unchanged.
	Reason, Message string
	// Stalled: a person must act. The job then continues.
	Stalled bool
	// Progress for people: "45% (450/1000)".
	Progress string
	// Image by digest and Digest are set after success with an image.
	Image, Digest string
	// ChatTemplate: the adapter has the template that it was trained with.
	ChatTemplate bool
	// Recheck is when the result changes though no event comes; 0: never.
	Recheck time.Duration
}

// Read reads a TuningJob.
func Read(job *tuningv1alpha1.TuningJob, acknowledge time.Duration, now time.Time) Result {
	r := Result{Progress: progress(job.Status.Progress)}
	if len(job.Status.Conditions) == 0 {
		if left := acknowledge - now.Sub(job.CreationTimestamp.Time); left > 0 {
			r.Recheck = left
			return r
		}
		r.Phase, r.Reason, r.Stalled = Ignored, kaitov1alpha1.ReasonTuningOperatorMissing, true
		r.Message = fmt.Sprintf(
			"TuningJob %s/%s has no condition after %s, so no operator watches it: install the tuning-operator, or find out why its pod does not run",
			job.Namespace, job.Name, acknowledge,
		)
		return r
	}
	conditions := job.Status.Conditions
	if c := meta.FindStatusCondition(conditions, tuningv1alpha1.ConditionFailed); c != nil && c.Status == "True" {
		r.Phase, r.Reason, r.Message, r.Stalled = Failed, c.Reason, c.Message, true
		if r.Reason == "" {
			r.Reason = kaitov1alpha1.ReasonTuningFailed
		}
		return r
	}
	if meta.IsStatusConditionTrue(conditions, tuningv1alpha1.ConditionSucceeded) {
		r.Phase = Succeeded
		if o := job.Status.Output; o != nil {
			r.Image, r.Digest, r.ChatTemplate = o.Image, o.Digest, o.ChatTemplate
		}
		return r
	}
	if meta.IsStatusConditionTrue(conditions, tuningv1alpha1.ConditionRunning) {
		r.Phase = Running
	}
	if c := meta.FindStatusCondition(conditions, tuningv1alpha1.ConditionStalled); c != nil && c.Status == "True" {
		r.Reason, r.Message, r.Stalled = c.Reason, c.Message, true
	}
	return r
}

func progress(p *tuningv1alpha1.Progress) string {
	switch {
	case p == nil:
		return ""
	case p.TotalSteps > 0 && p.Percent != "":
		return fmt.Sprintf("%s (%d/%d)", p.Percent, p.Step, p.TotalSteps)
	case p.TotalSteps > 0:
		return fmt.Sprintf("%d%% (%d/%d)", p.Step*100/p.TotalSteps, p.Step, p.TotalSteps)
	case p.Step > 0:
		return fmt.Sprintf("step %d", p.Step)
	}
	return ""
}
