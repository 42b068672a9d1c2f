// SPDX-License-Identifier: Apache-2.0

package azure

import "regexp"

// ourName matches the names of this operator's agent pools: see Name in package pool.
var ourName = regexp.MustCompile(`^g[a-z2-7]{8}(0|[1-9][0-9]{0,2})$`)

// TagsReplaced returns whether the pool has a name of this operator, but not its tags. `az aks nodepool update --tags`
// and Azure Policy can replace all tags of a pool. Such a pool is not changed, because it may be a user's. Its machines
// are still read, so that a machine with a claim does not look deleted. A pool with another cluster's tags is not
// affected.
func (p *Pool) TagsReplaced() bool {
	return !p.Ours() && ourName.MatchString(p.Name) && (!p.foreign || p.Tags[TagClusterUID] == "")
}

// Watched returns whether the pool's machines are read: it belongs to this operator, or did until its tags were
// replaced.
func (p *Pool) Watched() bool { return p.Ours() || p.TagsReplaced() }

// keyDigits is the position of the pool key in a name that ourName matches.
const keyDigits = 8

// OurTags returns the tags of this operator for a pool of that name in the cluster.
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
