// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kaito.sh/gpu-provisioner/internal/pool"
)

func TestMachineOfAPoolWithoutTagsIsNotGone(t *testing.T) {
	f := newFixture()
	f.views.view.Pools[0].Tags = map[string]string{"costcenter": "42"}
	c := claim(map[string]string{pool.AnnotationProviderID: machine})
	c.Status.ProviderID = machine
	c.DeletionTimestamp = &metav1.Time{Time: now.Add(-time.Hour)}
	require.NoError(
		t, f.Delete(t.Context(), c), "NotFound would have core drop the finalizer, and the machine would run on",
	)
	_, err := f.Get(t.Context(), machine)
	require.NoError(t, err)
	all, err := f.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1, "core deletes claims that the list lacks")
	assert.Equal(t, machine, all[0].Status.ProviderID)
}
