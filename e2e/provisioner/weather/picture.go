// SPDX-License-Identifier: Apache-2.0

package weather

import (
	"slices"
	"time"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/invariant"
)

// Ours returns whether tags are the operator's, as its README documents them.
func Ours(tags map[string]string) bool {
	return tags["kaito.sh_managed-by"] == "gpu-provisioner" && tags["kaito.sh_pool-key"] != ""
}

// Picture returns the state for the invariants, from the cloud's state and the existing claims. The caller adds deleted
// claims.
func Picture(state fakeazure.State, claims []karpv1.NodeClaim, at time.Time) invariant.Picture {
	p := invariant.Picture{At: at, Claims: claims}
	for _, pool := range state.Pools {
		out := invariant.Pool{
			Name:  pool.Name,
			Ours:  Ours(pool.Tags),
			Count: pool.Count,
			Busy:  slices.Contains(state.Running, pool.Name),
		}
		for _, id := range pool.Machines {
			out.Machines = append(out.Machines, invariant.Machine{ProviderID: id, Surge: slices.Contains(pool.Surge, id)})
		}
		p.Pools = append(p.Pools, out)
	}
	for _, write := range state.Writes {
		p.Writes = append(p.Writes, invariant.Write{
			What: write.Verb, Pool: write.Pool, Verdict: write.Refused, Stopped: write.PowerState != "Running",
			PowerRead: write.PowerRead == "Running", Ago: write.Time.Sub(write.ReadAt), Foreign: foreign(write),
		})
	}
	return p
}

// unseen is the maximum age of the list of pools on which the operator bases a write. It may not know of tags that a
// user replaced since.
const unseen = 30 * time.Second

// foreign returns whether a write was to a pool that is not the operator's.
func foreign(w fakeazure.Write) bool {
	if Ours(w.Tags) || w.Absent && w.Verb != "putPool" {
		return false
	}
	return w.Retagged.IsZero() || w.Time.Sub(w.Retagged) > unseen
}
