// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
)

// malformed creates a TuningJob from the YAML of a spec that the API server accepts and Go's types do not.
func (s *story) malformed(name, spec string) {
	s.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{}}
	var fields map[string]any
	require.NoError(s, yaml.Unmarshal([]byte(spec), &fields))
	u.Object["spec"] = fields
	u.SetGroupVersionKind(tuningv1alpha1.GroupVersion.WithKind("TuningJob"))
	u.SetNamespace(s.namespace)
	u.SetName(name)
	require.NoError(s, shared.client.Create(s.Context(), u))
}

// Informers decode whole lists: if volume sources were not kept as JSON, one of these objects would hide all others.
func TestMalformedTuningJobsDoNotAffectOthers(t *testing.T) {
	green := tell(t)
	for name, c := range map[string]struct{ spec, says string }{
		"input":      {`{model: {preset: phi-4}, method: lora, input: {volumeSource: {persistentVolumeClaim: x}}, output: {image: r/i}}`, "spec.input.volumeSource.persistentVolumeClaim: invalid value"},
		"output":     {`{model: {preset: phi-4}, method: lora, input: {dataset: a/b}, output: {volumeSource: {emptyDir: {sizeLimit: many}}}}`, "spec.output.volumeSource.emptyDir.sizeLimit: invalid value"},
		"model":      {`{model: {preset: phi-4, source: {volumeSource: {hostPath: []}}}, method: lora, input: {dataset: a/b}, output: {image: r/i}}`, "spec.model.source.volumeSource.hostPath: invalid value"},
		"checkpoint": {`{model: {preset: phi-4}, method: lora, input: {dataset: a/b}, output: {image: r/i}, checkpoint: {volumeSource: {csi: 1}}}`, "spec.checkpoint.volumeSource.csi: invalid value"},
	} {
		green.malformed(name, c.spec)
		green.name = name
		tj := green.reaches(tuningv1alpha1.ReasonInvalidSpec)
		assert.Contains(t, ready(tj).Message, c.says)
		assert.True(t, conditions.IsTrue(tj, conditions.Stalled))
		assert.Nil(t, green.job())
	}
	for range 2 {
		blue := tell(t)
		blue.submit(queued)
		blue.admit(blue.well())
		blue.reaches(tuningv1alpha1.ReasonSucceeded)
	}
}
