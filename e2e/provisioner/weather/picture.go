// SPDX-License-Identifier: Apache-2.0

package weather

import (
	"slices"
	"time"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/invariant"
)

// Ours says whether tags are the provisioner's, as its README promises them.
func Ours(tags map[string]string) bool {
	return tags["kaito.sh_managed-by"] == "gpu-provisioner" && tags["kaito.sh_pool-key"] != ""
}

// Picture is what the invariants are asked about: the cloud's state, and the claims that there are. Claims that are
// gone are the caller's to add.
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
			Told: write.Told == "Running", Ago: write.Time.Sub(write.ToldAt), Foreign: foreign(write),
		})
	}
	return p
}

// unseen is how long ago a person may have replaced a pool's tags without the provisioner knowing: no list of pools
// that it writes upon is older.
const unseen = 30 * time.Second

// foreign says whether a write was to a pool that is not the provisioner's.
func foreign(w fakeazure.Write) bool {
	if Ours(w.Tags) || w.Absent && w.Verb != "putPool" {
		return false
	}
	return w.Retagged.IsZero() || w.Time.Sub(w.Retagged) > unseen
}
