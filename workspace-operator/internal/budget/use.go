// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"cmp"
	"slices"
)

// Bill is what one node counts for.
type Bill struct {
	// GPUs of the node, all of them.
	GPUs int64
	// Cost is the list price of an hour; Priced false: it is not known.
	Cost   Money
	Priced bool
}

// Node is a node that is rented, or reserved: a claim.
type Node struct {
	// Claim is the name of the Machine or NodeClaim. It is deterministic, so that the same node is never counted twice.
	Claim string
	// Workspace is the name of the Workspace that the node is rented for.
	Workspace string
	Bill
}

// Use is a sum of Nodes.
type Use struct {
	Nodes, GPUs int64
	Cost        Money
	// Unpriced nodes are not in Cost.
	Unpriced int64
}

// Share is the use of one Workspace.
type Share struct {
	Workspace string
	Use
}

// Add counts one node more.
func (u *Use) Add(b Bill) {
	u.Nodes++
	u.GPUs += b.GPUs
	if b.Priced {
		u.Cost += b.Cost
	} else {
		u.Unpriced++
	}
}

// Times is the use of so many equal nodes.
func (b Bill) Times(nodes int) Use {
	var u Use
	for range nodes {
		u.Add(b)
	}
	return u
}

// Sum counts nodes, each claim once: the total, and the share of each Workspace, the largest first, then by name.
func Sum(nodes []Node) (Use, []Share) {
	var total Use
	shares := map[string]*Share{}
	seen := map[string]bool{}
	for _, n := range nodes {
		if seen[n.Claim] {
			continue
		}
		seen[n.Claim] = true
		total.Add(n.Bill)
		if shares[n.Workspace] == nil {
			shares[n.Workspace] = &Share{Workspace: n.Workspace}
		}
		shares[n.Workspace].Add(n.Bill)
	}
	out := make([]Share, 0, len(shares))
	for _, s := range shares {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Nodes, a.Nodes), cmp.Compare(a.Workspace, b.Workspace))
	})
	return total, out
}
