// SPDX-License-Identifier: Apache-2.0

package offering

import (
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestRequestsRenameStorage(t *testing.T) {
	list := func(pairs ...string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	for name, tc := range map[string]struct{ in, want corev1.ResourceList }{
		"nothing":                    {nil, nil},
		"no disk":                    {list("nvidia.com/gpu", "1"), list("nvidia.com/gpu", "1")},
		"storage, as KAITO has it":   {list("storage", "120Gi"), list("ephemeral-storage", "120Gi")},
		"ephemeral-storage":          {list("ephemeral-storage", "120Gi"), list("ephemeral-storage", "120Gi")},
		"both, storage the larger":   {list("storage", "2Ti", "ephemeral-storage", "1Gi"), list("ephemeral-storage", "2Ti")},
		"both, ephemeral the larger": {list("storage", "1Gi", "ephemeral-storage", "2Ti"), list("ephemeral-storage", "2Ti")},
	} {
		t.Run(name, func(t *testing.T) {
			before := tc.in.DeepCopy()
			assert.Equal(t, tc.want, Requests(tc.in))
			assert.Equal(t, before, tc.in, "configured values are not replaced")
		})
	}
}
