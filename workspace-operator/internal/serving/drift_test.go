// SPDX-License-Identifier: Apache-2.0

package serving_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/serving"
)

func TestOneVersionOfAnObjectIsSettled(t *testing.T) {
	t.Parallel()
	object := func(workspace, uid, version string) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{
			UID: types.UID(uid), ResourceVersion: version, Labels: map[string]string{kaitov1alpha1.LabelWorkspaceUID: workspace},
		}}
	}
	d := serving.NewDrift()
	assert.False(t, d.Settled(object("w", "a", "1")))
	d.Settle(object("w", "a", "1"))
	assert.True(t, d.Settled(object("w", "a", "1")))
	assert.False(t, d.Settled(object("w", "a", "2")), "it was changed")
	assert.False(t, d.Settled(object("w", "b", "1")), "it was made again")
	assert.False(t, d.Settled(object("v", "a", "1")), "another Workspace's")
	d.Forget("w")
	assert.False(t, d.Settled(object("w", "a", "1")))
}
