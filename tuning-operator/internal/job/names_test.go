// SPDX-License-Identifier: Apache-2.0

package job_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
)

func TestNamesAreValid(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?){0,3}`).
			Draw(r, "name")
		if len(name) > 253 {
			name = strings.Trim(name[:253], "-.")
		}
		tj := &tuningv1alpha1.TuningJob{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, got := range []string{job.Name(tj) + "-63", job.ServiceName(tj), job.ClaimName(tj)} {
			assert.Empty(r, validation.IsDNS1123Label(got), "%s of %s", got, name)
		}
	})
}

func TestJobNamesAreUnique(t *testing.T) {
	long := strings.Repeat("a", 70)
	seen := map[string]string{}
	for _, name := range []string{"a", "a.b", "a-b", long, long + "a", long + "b"} {
		got := job.Name(&tuningv1alpha1.TuningJob{ObjectMeta: metav1.ObjectMeta{Name: name}})
		assert.Empty(t, seen[got], "%s and %s", name, seen[got])
		seen[got] = name
	}
}

// TestResultJobNamesAreUnique uses names that users may choose to cause a collision, and long ones.
func TestResultJobNamesAreUnique(t *testing.T) {
	of := func(name string) *tuningv1alpha1.TuningJob {
		return &tuningv1alpha1.TuningJob{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9]([a-z0-9.-]{0,80}[a-z0-9])?`).Draw(r, "name")
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			r.Skip("no name")
		}
		asks := job.ResultJobName(of(name))
		assert.Empty(r, validation.IsDNS1123Label(asks))
		for _, other := range []string{name, name + "-result", asks, job.Name(of(name)) + "-result", strings.ReplaceAll(name, ".", "-")} {
			assert.NotEqual(r, asks, job.Name(of(other)), "the Job that trains %s", other)
			if other != name {
				assert.NotEqual(r, asks, job.ResultJobName(of(other)))
			}
		}
		if len(name) <= 58 && !strings.Contains(name, ".") {
			assert.Equal(r, name, job.Name(of(name)), "an operator that is upgraded finds the Job that runs")
		}
	})
}
