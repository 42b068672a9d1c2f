// SPDX-License-Identifier: Apache-2.0

package azure

import "regexp"

// ourName matches the names that this operator gives to agent pools: see Name in package pool.
var ourName = regexp.MustCompile(`^g[a-z2-7]{8}(0|[1-9][0-9]{0,2})$`)

// TagsReplaced says that the pool has a name of ours, but not our tags. `az aks nodepool update --tags` replaces all
// tags of a pool, and so may Azure Policy. Such a pool is not written to, since it may be a person's; but its machines
// are read, so that a machine that a claim names is not taken for gone. A pool whose tags name another cluster is that
// cluster's.
func (p *Pool) TagsReplaced() bool {
	return !p.Ours() && ourName.MatchString(p.Name) && (!p.foreign || p.Tags[TagClusterUID] == "")
}

// Watched says whether the pool's machines are read: it is ours, or was before its tags were replaced.
func (p *Pool) Watched() bool { return p.Ours() || p.TagsReplaced() }

// keyDigits is where the pool key is in a name that ourName matches.
const keyDigits = 8

// OurTags are the tags that make a pool of that name this operator's in the cluster.
func (c Cluster) OurTags(pool string) map[string]string {
	tags := map[string]string{TagManagedBy: ManagedByValue}
	if ourName.MatchString(pool) {
		tags[TagPoolKey] = pool[1 : 1+keyDigits]
	}
	if c.UID != "" {
		tags[TagClusterUID] = c.UID
	}
	return tags
}
