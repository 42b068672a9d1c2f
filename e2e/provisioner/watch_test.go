// SPDX-License-Identifier: Apache-2.0

package provisioner_test

import (
	"context"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/watch"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/provisioner/invariant"
)

// Tags of the operator's pools, as its README documents them.
const (
	tagManagedBy = "kaito.sh_managed-by"
	tagPoolKey   = "kaito.sh_pool-key"
)

func ours(tags map[string]string) bool {
	return tags[tagManagedBy] == "gpu-provisioner" && tags[tagPoolKey] != ""
}

// watch checks the invariants four times a second and records claims.
func (w *world) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	watcher, err := w.client.Watch(ctx, &karpv1.NodeClaimList{})
	require.NoError(w.t, err)
	w.stop = cancel
	w.watching.Go(func() {
		defer watcher.Stop()
		for event := range watcher.ResultChan() {
			if claim, ok := event.Object.(*karpv1.NodeClaim); ok && event.Type == watch.Deleted {
				w.mu.Lock()
				w.gone = append(w.gone, *claim)
				w.mu.Unlock()
			}
		}
	})
	w.watching.Go(func() {
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				w.check()
			}
		}
	})
}

func (w *world) stopWatching() {
	w.check()
	w.stop()
	w.watching.Wait()
}

func (w *world) check() {
	p, ok := w.picture()
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.checker.Check(p) {
		w.broken[line] = true
	}
}

// picture returns the state of the cloud and the cluster. It reads the cloud before and after the claims, and uses only
// what both reads contain, because the two cannot be read at the same instant.
func (w *world) picture() (invariant.Picture, bool) {
	before := w.azure.State()
	var list karpv1.NodeClaimList
	if err := w.client.List(context.Background(), &list); err != nil {
		return invariant.Picture{}, false
	}
	after := w.azure.State()
	p := invariant.Picture{At: time.Now(), Claims: list.Items}
	w.mu.Lock()
	p.Gone = slices.Clone(w.gone)
	w.mu.Unlock()
	for _, pool := range after.Pools {
		out := invariant.Pool{
			Name:  pool.Name,
			Ours:  ours(pool.Tags),
			Count: pool.Count,
			Busy:  slices.Contains(after.Running, pool.Name) || slices.Contains(before.Running, pool.Name),
		}
		for _, id := range pool.Machines {
			out.Machines = append(out.Machines, invariant.Machine{ProviderID: id})
		}
		p.Pools = append(p.Pools, out)
	}
	for _, write := range after.Writes {
		p.Writes = append(p.Writes, invariant.Write{
			What:      write.Verb,
			Pool:      write.Pool,
			Verdict:   write.Refused,
			Stopped:   write.PowerState != "Running",
			PowerRead: write.PowerRead == "Running",
			Ago:       write.Time.Sub(write.ReadAt),
			Foreign:   !ours(write.Tags) && (!write.Absent || write.Verb == "putPool"),
		})
	}
	return p, true
}
