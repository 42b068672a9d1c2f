// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/excerpt"
	"kaito.sh/shared/redact"
	"kaito.sh/workspace-operator/internal/plan"
)

const (
	// maxAttempts is how many failed attempts the status keeps; the schema refuses more.
	maxAttempts = 10
	// firstPause is how long a choice rests after its first failure; each further one doubles that, up to lastPause.
	// Azure's own advice for an allocation failure is to try later or elsewhere.
	firstPause = time.Minute
	lastPause  = 30 * time.Minute
	// memory is how long a failure counts for the next pause.
	memory = 6 * time.Hour
	// Budget is how many nodes of a choice are replaced at once because they never had their GPUs; then the choice rests
	// until the user acts. Lost nodes are replaced at once as often within replacementWindow; then the choice rests like
	// one that was not available.
	Budget            = 3
	replacementWindow = time.Hour
	// Forever is longer than any wait.
	Forever = 10 * 365 * 24 * time.Hour
)

// Record appends a failed attempt and keeps the last ten. What happened is cut to a size that a status can hold ten
// times.
func Record(
	attempts []kaitov1alpha1.Attempt, choice plan.Choice, reason, message string, now time.Time,
) []kaitov1alpha1.Attempt {
	const limit = 1024
	out := append(append([]kaitov1alpha1.Attempt(nil), attempts...), kaitov1alpha1.Attempt{
		InstanceType: choice.InstanceType,
		CapacityType: choice.CapacityType,
		Reason:       reason,
		Message:      excerpt.Head(redact.Text(message), limit),
		Time:         metav1.NewTime(now.Truncate(time.Second)),
	})
	if len(out) > maxAttempts {
		out = out[len(out)-maxAttempts:]
	}
	return out
}

// Resting says until when each choice that failed lately is not asked for again.
func Resting(attempts []kaitov1alpha1.Attempt, now time.Time) map[plan.Choice]time.Time {
	type tally struct {
		failures, replaced, dark int
		last                     time.Time
	}
	tallies := map[plan.Choice]*tally{}
	for _, a := range attempts {
		choice := plan.Choice{InstanceType: a.InstanceType, CapacityType: a.CapacityType}
		age := now.Sub(a.Time.Time)
		if tallies[choice] == nil {
			tallies[choice] = &tally{}
		}
		t := tallies[choice]
		switch {
		case a.Reason == kaitov1alpha1.ReasonAcceleratorNotReady:
			t.dark++
		case a.Reason == kaitov1alpha1.ReasonNodeLost:
			if age < replacementWindow {
				t.replaced++
				t.last = a.Time.Time
			}
		case age < memory:
			t.failures++
			t.last = a.Time.Time
		}
	}
	out := map[plan.Choice]time.Time{}
	for choice, t := range tallies {
		if t.dark > Budget {
			out[choice] = now.Add(Forever)
			continue
		}
		failures := t.failures + max(0, t.replaced-Budget+1)
		if failures == 0 {
			continue
		}
		pause := lastPause
		if failures <= 5 { // 16 minutes; the next doubling is past the last pause
			pause = min(firstPause<<(failures-1), lastPause)
		}
		if until := t.last.Add(pause); until.After(now) {
			out[choice] = until
		}
	}
	return out
}
