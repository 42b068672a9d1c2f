// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
)

func TestListThatChangesBetweenTwoPages(t *testing.T) {
	var between func()
	a := newAzure(t, func(o *fakeazure.Options) {
		o.PageSize = 2
		o.OnRequest = func(r fakeazure.Request) fakeazure.Verdict {
			if r.Verb == "listPools" && r.Page == 2 {
				between()
			}
			return fakeazure.Serve
		}
	})
	for i := range 5 {
		a.server.AddForeignPool(fmt.Sprintf("pool%d", i), "Standard_D4s_v5", 0, nil)
	}
	between = func() { a.server.RemovePool("pool0") }
	got, err := a.listPools(t.Context())
	require.NoError(t, err)
	assert.Equal(
		t, []string{"pool0", "pool1", "pool2", "pool3", "pool4"}, got, "the first page had entries that were deleted later",
	)
	between = func() { a.server.AddForeignPool("pool00", "Standard_D4s_v5", 0, nil) }
	got, err = a.listPools(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"pool1", "pool2", "pool3", "pool4"}, got, "entries after the page appear in the next list")
}

func TestFullPageHasANextOne(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) { o.PageSize = 2 })
	for i := range 4 {
		a.server.AddForeignPool(fmt.Sprintf("pool%d", i), "Standard_D4s_v5", 0, nil)
	}
	got, err := a.listPools(t.Context())
	require.NoError(t, err)
	assert.Len(t, got, 4)
	assert.Equal(t, 3, a.server.State().Calls["listPools"])
}
