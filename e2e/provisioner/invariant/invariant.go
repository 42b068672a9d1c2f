// SPDX-License-Identifier: Apache-2.0

package invariant

import (
	"fmt"
	"slices"
	"strings"
	"time"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// AnnotationProviderID is the machine of a claim before Karpenter writes the status.
const AnnotationProviderID = "kaito.sh/provider-id"

// Machine is a VM of an agent pool.
type Machine struct {
	ProviderID string
	// Leaving is true when the cloud was asked to delete it.
	Leaving bool
	// Surge is true when an upgrade created it and will delete it.
	Surge bool
}

// Pool is an agent pool in the cloud.
type Pool struct {
	Name     string
	Ours     bool // has the operator's tags
	Busy     bool // an operation runs
	Count    int
	Machines []Machine
}

// Write is a write that the cloud received.
type Write struct {
	What string // for messages
	Pool string
	// Foreign is true when the pool existed without the operator's tags.
	Foreign bool
	// Stopped is true when the cluster was stopping, stopped or starting.
	Stopped bool
	// PowerRead is true when the last read of the cluster returned Running, Ago before the write.
	PowerRead bool
	Ago       time.Duration
	// Verdict is why the cloud rejected it. Empty: it took effect.
	Verdict string
}

// Picture is the state of the cloud and the cluster at one time.
type Picture struct {
	At     time.Time
	Pools  []Pool
	Claims []karpv1.NodeClaim // of the operator's node class
	Writes []Write            // since the start
	// Gone are deleted claims, in their last state.
	Gone []karpv1.NodeClaim
}

// Checker keeps what it needs between two pictures.
type Checker struct {
	// Grace is the time that a machine may have no claim: the operator's own grace, two reads of the cloud, and an
	// operation.
	Grace time.Duration
	// Look is the time that may pass between a read of the cluster and a write. The cluster can stop in between.
	Look time.Duration
	// Released are the names of claims that their owner deleted. They may be deleted without a reason.
	Released map[string]bool
	// Taken are the names of claims whose machine or Node another client deleted. Karpenter deletes the claim of a deleted
	// Node without a reason; the Machine, if there is one, must have one. The map is optional.
	Taken map[string]bool

	unnamed map[string]time.Time
}

// Check returns the violations. Each line starts with the number of the invariant.
func (c *Checker) Check(p Picture) []string {
	var broken []string
	broken = append(broken, c.i1(p)...)
	broken = append(broken, i2(p)...)
	broken = append(broken, i4(p)...)
	broken = append(broken, c.i5(p)...)
	broken = append(broken, c.i6(p)...)
	broken = append(broken, i7(p)...)
	return broken
}

// Empty is I3: without claims, the operator has no pools. It becomes true within a bounded number of steps, so it has a
// function of its own.
func Empty(p Picture) []string {
	var broken []string
	if len(p.Claims) > 0 {
		return nil
	}
	for _, pool := range p.Pools {
		if pool.Ours {
			broken = append(
				broken, fmt.Sprintf("I3: no claim is left, but agent pool %s with %d machines", pool.Name, len(pool.Machines)),
			)
		}
	}
	return broken
}

// ProviderIDs returns the machines that a claim names. I2 forbids more than one.
func ProviderIDs(claim *karpv1.NodeClaim) []string {
	var out []string
	for _, id := range []string{claim.Status.ProviderID, claim.Annotations[AnnotationProviderID]} {
		if id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// i1: every machine in a pool of the operator is named by one live claim, or a claim waits for it, or it is being
// deleted, or it is younger than the grace.
func (c *Checker) i1(p Picture) []string {
	named := map[string]bool{}
	awaited := 0
	for i := range p.Claims {
		ids := ProviderIDs(&p.Claims[i])
		for _, id := range ids {
			named[id] = true
		}
		if len(ids) == 0 && p.Claims[i].DeletionTimestamp.IsZero() {
			awaited++
		}
	}
	unnamed := map[string]time.Time{}
	var broken []string
	for _, pool := range p.Pools {
		if !pool.Ours {
			continue
		}
		for _, m := range pool.Machines {
			if named[m.ProviderID] || m.Leaving || pool.Busy || awaited > 0 {
				continue
			}
			since, ok := c.unnamed[m.ProviderID]
			if !ok {
				since = p.At
			}
			unnamed[m.ProviderID] = since
			if age := p.At.Sub(since); age > c.Grace {
				broken = append(
					broken,
					fmt.Sprintf("I1: no claim names machine %s of pool %s for %s", m.ProviderID, pool.Name, age.Round(time.Second)),
				)
			}
		}
	}
	c.unnamed = unnamed
	return broken
}

// i2: no claim names two machines, and no machine is named by two claims.
func i2(p Picture) []string {
	var broken []string
	owner := map[string]string{}
	for i := range p.Claims {
		claim := &p.Claims[i]
		ids := ProviderIDs(claim)
		if len(ids) > 1 {
			broken = append(broken, fmt.Sprintf("I2: claim %s names two machines: %s", claim.Name, strings.Join(ids, ", ")))
		}
		for _, id := range ids {
			if other, ok := owner[id]; ok {
				broken = append(broken, fmt.Sprintf("I2: claims %s and %s both name %s", other, claim.Name, id))
			}
			owner[id] = claim.Name
		}
	}
	return broken
}

// i4: nothing without the operator's tags is ever changed or deleted.
func i4(p Picture) []string {
	var broken []string
	for _, w := range p.Writes {
		if w.Foreign {
			broken = append(broken, fmt.Sprintf("I4: %s was asked of pool %s, which is not ours", w.What, w.Pool))
		}
	}
	return broken
}

// i5: no write is requested while the cluster is stopping, stopped or starting, even if the cloud would accept it. A
// write right after a read that returned Running is excused, because the cluster stopped in between. A write without
// such a read is a violation, even if the cluster ran.
func (c *Checker) i5(p Picture) []string {
	var broken []string
	for _, w := range p.Writes {
		switch looked := w.PowerRead && w.Ago <= c.Look; {
		case w.Stopped && !looked:
			broken = append(
				broken,
				fmt.Sprintf("I5: %s was asked of pool %s while the cluster did not run (verdict %q)", w.What, w.Pool, w.Verdict),
			)
		case !looked:
			broken = append(
				broken,
				fmt.Sprintf(
					"I5: %s was asked of pool %s without a look at the cluster before; the last was %s earlier (verdict %q)", w.What,
					w.Pool, w.Ago, w.Verdict,
				),
			)
		}
	}
	return broken
}

// pendingReasons are reasons of claims that are still launching. They do not explain a deletion.
var pendingReasons = []string{"", "AwaitingReconciliation", "Launching", "LaunchFailed"}

// i6: every failed claim has a typed reason before it is deleted.
func (c *Checker) i6(p Picture) []string {
	var broken []string
	for i := range p.Gone {
		claim := &p.Gone[i]
		if c.Released[claim.Name] || c.Taken[claim.Name] || explained(claim) {
			continue
		}
		launched := claim.StatusConditions().Get(karpv1.ConditionTypeLaunched)
		broken = append(
			broken,
			fmt.Sprintf(
				"I6: claim %s went without a reason: Launched is %s, %q: %s", claim.Name, launched.Status, launched.Reason,
				launched.Message,
			),
		)
	}
	return broken
}

// explained returns whether a claim has a reason why it did not launch or why its Node did not register, or whether it
// worked and was deleted later.
func explained(claim *karpv1.NodeClaim) bool {
	conditions := claim.StatusConditions()
	launched, registered := conditions.Get(karpv1.ConditionTypeLaunched), conditions.Get(karpv1.ConditionTypeRegistered)
	switch {
	case registered.IsTrue():
		return true
	case registered.IsFalse():
		return registered.Reason != ""
	case launched.IsTrue():
		return false
	default:
		return !slices.Contains(pendingReasons, launched.Reason)
	}
}

// i7: no claim names a machine that an upgrade will delete.
func i7(p Picture) []string {
	surge := map[string]string{}
	for _, pool := range p.Pools {
		for _, m := range pool.Machines {
			if m.Surge {
				surge[m.ProviderID] = pool.Name
			}
		}
	}
	var broken []string
	for i := range p.Claims {
		for _, id := range ProviderIDs(&p.Claims[i]) {
			if pool, ok := surge[id]; ok {
				broken = append(
					broken, fmt.Sprintf("I7: claim %s names %s, a surge machine of pool %s", p.Claims[i].Name, id, pool),
				)
			}
		}
	}
	return broken
}
