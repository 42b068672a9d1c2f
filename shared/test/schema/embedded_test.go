// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"kaito.sh/shared/api/embedded"
)

func TestDecodeNamesTheInvalidField(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, raw, path, value, cause string }{
		{"a string for a list", `{"spec":{"containers":"none"}}`, "t.spec.containers", `"none"`, "wrong type: found string, need list"},
		{"the second of two containers", `{"spec":{"containers":[{"name":"a"},{"name":1}]}}`, "t.spec.containers[1].name", `1`, "found number, need string"},
		{"a malformed quantity", `{"spec":{"containers":[{"resources":{"limits":{"cpu":"1","nvidia.com/gpu":"1e1.5"}}}]}}`,
			`t.spec.containers[0].resources.limits["nvidia.com/gpu"]`, `"1e1.5"`, "quantities must match"},
		{"a malformed time", `{"metadata":{"creationTimestamp":"soon"}}`, "t.metadata.creationTimestamp", `"soon"`, "cannot parse"},
		{"a number too large for its field", `{"spec":{"priority":3000000000}}`, "t.spec.priority", `3000000000`, "need whole number"},
		{"a bad label", `{"metadata":{"labels":{"app":7}}}`, "t.metadata.labels.app", `7`, "found number, need string"},
		{"a list at the top", `[]`, "t", `[]`, "found array, need object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var p embedded.PodTemplate
			require.NoError(t, json.Unmarshal([]byte(test.raw), &p))
			out, err := p.Decode("t")
			assert.Nil(t, out)
			var invalid *embedded.InvalidError
			require.ErrorAs(t, err, &invalid)
			assert.Equal(t, test.path, invalid.Path)
			assert.Equal(t, test.value, invalid.Value)
			assert.ErrorContains(t, err, test.cause)
		})
	}
}

func TestDecodeShortensLongValues(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(map[string]any{"persistentVolumeClaim": strings.Repeat("ü", 1000)})
	require.NoError(t, err)
	_, err = (&embedded.VolumeSource{Raw: raw}).Decode("v")
	var invalid *embedded.InvalidError
	require.ErrorAs(t, err, &invalid)
	assert.Equal(t, "v.persistentVolumeClaim", invalid.Path)
	assert.LessOrEqual(t, len(invalid.Value), 70)
	assert.NotContains(t, invalid.Value, "\uFFFD")
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	want := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}
	in := struct {
		V *embedded.VolumeSource `json:"v,omitempty"`
		N *embedded.VolumeSource `json:"n,omitempty"`
	}{V: embedded.NewVolumeSource(want)}
	raw, err := json.Marshal(in)
	require.NoError(t, err)
	assert.JSONEq(t, `{"v":{"persistentVolumeClaim":{"claimName":"data"}}}`, string(raw))
	got, err := in.V.Decode("v")
	require.NoError(t, err)
	assert.Equal(t, &want, got)
	none, err := in.N.Decode("n")
	require.NoError(t, err)
	assert.Nil(t, none)
}

func TestCopiesShareNoMemory(t *testing.T) {
	t.Parallel()
	a := embedded.NewPodTemplate(corev1.PodTemplateSpec{Spec: corev1.PodSpec{NodeName: "n"}})
	b := a.DeepCopy()
	a.Raw[0] = 'x'
	_, err := b.Decode("t")
	assert.NoError(t, err)
}
