// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPoolWithOurNameAndOtherTagsIsWatched(t *testing.T) {
	const name = "gabcdefg20"
	ours := map[string]string{TagManagedBy: ManagedByValue, TagPoolKey: "abcdefg2"}
	for what, tc := range map[string]struct {
		pool              Pool
		replaced, watched bool
	}{
		"ours":                          {Pool{Name: name, Tags: ours}, false, true},
		"without tags":                  {Pool{Name: name}, true, true},
		"with a person's tags":          {Pool{Name: name, Tags: map[string]string{"costcenter": "42"}}, true, true},
		"without the cluster's tag":     {Pool{Name: name, Tags: ours, foreign: true}, true, true},
		"of another cluster":            {Pool{Name: name, Tags: map[string]string{TagClusterUID: "other"}, foreign: true}, false, false},
		"a person's, by name":           {Pool{Name: "nodepool1"}, false, false},
		"a person's with a similar one": {Pool{Name: "gabcdefg2x"}, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			assert.Equal(t, tc.replaced, tc.pool.TagsReplaced())
			assert.Equal(t, tc.watched, tc.pool.Watched())
		})
	}
	assert.Equal(
		t, map[string]string{TagManagedBy: ManagedByValue, TagPoolKey: "abcdefg2", TagClusterUID: "u"},
		Cluster{UID: "u"}.OurTags(name),
	)
}

func TestMachinesOfAPoolWithoutTagsAreRead(t *testing.T) {
	r, c, _ := newReader()
	r.pools = append(r.pools, Pool{Name: "gabcdefg20", State: StateSucceeded})
	r.machines["gabcdefg20"] = []Machine{{"m0", "pm"}}
	require.NoError(t, c.Refresh(t.Context(), time.Minute))
	view, err := c.View()
	require.NoError(t, err)
	_, p, found := view.Machine("pm")
	require.True(t, found, "without it, its claim would be deleted")
	assert.True(t, p.TagsReplaced())
}
