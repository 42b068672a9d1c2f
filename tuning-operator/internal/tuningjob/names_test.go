// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/job"
)

// beside returns another TuningJob in the same namespace.
func (s *story) beside(name string) *story {
	return &story{T: s.T, namespace: s.namespace, name: name}
}

// TestNameEqualsThatOfAResultJob runs the result Job of one TuningJob and the Job of another one whose name could equal
// that of the result Job.
func TestNameEqualsThatOfAResultJob(t *testing.T) {
	long := strings.Repeat("tune-", 10) + "x" // with -result it has the longest name that stays unchanged
	for _, name := range []string{"tune", long} {
		t.Run(name, func(t *testing.T) {
			s := tell(t)
			s.name = name
			other := s.beside(name + "-result")
			other.submit(queued)
			require.Eventually(t, func() bool { return other.job() != nil }, eventually.Long, eventually.Tick)

			s.runWithoutResult()
			s.outcome(s.asks(), s.found())
			assert.Equal(t, digest, s.reaches(tuningv1alpha1.ReasonSucceeded).Status.Output.Digest)
			other.admit(other.well())
			other.reaches(tuningv1alpha1.ReasonSucceeded)

			var jobs batchv1.JobList
			require.NoError(t, shared.client.List(t.Context(), &jobs, client.InNamespace(s.namespace)))
			var names []string
			for _, j := range jobs.Items {
				names = append(names, j.Name)
			}
			assert.ElementsMatch(t, []string{job.Name(s.get()), job.ResultJobName(s.get()), job.Name(other.get())}, names)
		})
	}
}

// resultJobName returns the name of the result Job of a TuningJob that may not exist yet.
func resultJobName(s *story) string {
	return job.ResultJobName(&tuningv1alpha1.TuningJob{ObjectMeta: s.meta(s.name)})
}
