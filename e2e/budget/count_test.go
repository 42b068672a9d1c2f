// SPDX-License-Identifier: Apache-2.0

package budget_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// counter counts the claims that are alive by watches, which miss no moment: a claim counts until it is gone.
type counter struct {
	mu   sync.Mutex
	now  map[types.UID]bool
	most int
}

// count starts to watch both kinds of claims, when there are none yet.
func count(t *testing.T, c client.WithWatch) *counter {
	t.Helper()
	k := &counter{now: map[types.UID]bool{}}
	for _, list := range []client.ObjectList{&karpenterv1alpha5.MachineList{}, &karpv1.NodeClaimList{}} {
		require.NoError(t, c.List(t.Context(), list))
		require.Zero(t, meta.LenList(list), "claims before the test")
		watcher, err := c.Watch(
			t.Context(), list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}},
		)
		require.NoError(t, err)
		var watching sync.WaitGroup
		watching.Go(func() {
			for e := range watcher.ResultChan() {
				k.note(e)
			}
		})
		t.Cleanup(func() {
			watcher.Stop()
			watching.Wait()
		})
	}
	return k
}

func (k *counter) note(e watch.Event) {
	obj, err := meta.Accessor(e.Object)
	// A NodeClaim that the provisioner has made of a Machine is the same node.
	if err != nil || obj.GetLabels()[kaitov1alpha1.LabelWorkspaceNamespace] == "" || len(obj.GetOwnerReferences()) > 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.Type == watch.Deleted {
		delete(k.now, obj.GetUID())
	} else {
		k.now[obj.GetUID()] = true
	}
	k.most = max(k.most, len(k.now))
}

// alive is the number of claims now, and peak the largest number that there ever was.
func (k *counter) alive() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.now)
}

func (k *counter) peak() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.most
}
