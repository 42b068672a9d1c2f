// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
)

// Progress returns the status's progress for a report of the trainer.
func Progress(t *message.Train, at metav1.Time) *tuningv1alpha1.Progress {
	p := &tuningv1alpha1.Progress{
		Step: t.Step, TotalSteps: t.TotalSteps,
		Epoch: decimal(t.Epoch, 3), Loss: decimal(t.Loss, 4), TokensPerSecond: decimal(t.TokensPerSecond, 1),
	}
	if t.LearningRate != nil {
		p.LearningRate = strconv.FormatFloat(*t.LearningRate, 'g', 4, 64)
	}
	if t.TotalSteps > 0 {
		p.Percent = strconv.FormatInt(min(t.Step*100/t.TotalSteps, 100), 10) + "%"
	}
	if left := remaining(t); left > 0 {
		p.ETA = duration.HumanDuration(left)
	}
	if !at.IsZero() {
		p.Updated = &metav1.Time{Time: at.Truncate(time.Second)}
	}
	return p
}

// remaining returns the time left at the rate of this attempt so far, or 0 if it is unknown.
func remaining(t *message.Train) time.Duration {
	done, left := t.Step-t.FromStep, t.TotalSteps-t.Step
	if done <= 0 || left <= 0 || t.ElapsedSeconds <= 0 {
		return 0
	}
	return time.Duration(t.ElapsedSeconds / float64(done) * float64(left) * float64(time.Second))
}

func decimal(v *float64, digits int) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', digits, 64)
}
