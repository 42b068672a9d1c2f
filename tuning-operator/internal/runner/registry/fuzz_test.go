// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/registry"
)

// FuzzParse searches for a reference that panics, is refused without a reason, or is parsed as another reference.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"registry.example.com/team/adapter:v1", "localhost:5000/a", "a.b/c@sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "[::1]:5000/a/b:t",
		"ubuntu", "library/ubuntu:22.04", "docker.io/library/ubuntu:22.04@sha256:0", "https://registry/a", "registry/a:", "registry/a@", "registry/../a", "reg istry/a", "registry/A", "user@registry/a", "registry/a:b/c", "", "/", "\x00/a",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := registry.Parse(text)
		if err != nil {
			got := fault.Of(err, "Unsorted")
			require.True(t, got.Permanent, "another try would read the same")
			require.Equal(t, tuningv1alpha1.ReasonSourceInvalid, got.Reason)
			return
		}
		assert.NotEmpty(t, ref.Registry)
		assert.NotEmpty(t, ref.Repository)
		assert.NotContains(t, ref.Registry, "/")
		assert.NotContains(t, ref.Registry, "@", "no credentials in a name that is logged")
		again, err := registry.Parse(ref.String())
		require.NoError(t, err, "it is read as it is written: %s", ref)
		assert.Equal(t, ref, again)
	})
}
