// SPDX-License-Identifier: Apache-2.0

// Package invariant holds the promises of the provisioner's design that must be true after every step of every
// scenario, with the process killed between any two calls. It judges what it is shown; it asks nobody.
package invariant

import (
	"fmt"
	"slices"
	"strings"
	"time"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// AnnotationProviderID is where a claim names its machine before core writes the status.
const AnnotationProviderID = "kaito.sh/provider-id"

// Machine is a VM of an agent pool.
type Machine struct {
	ProviderID string
	// Leaving says that the cloud was asked to delete it.
	Leaving bool
	// Surge says that an upgrade made it, and removes it again.
	Surge bool
}

// Pool is an agent pool as the cloud itself has it.
type Pool struct {
	Name     string
	Ours     bool // tagged as the provisioner's
	Busy     bool // an operation runs
	Count    int
	Machines []Machine
}

// Write is a write that the cloud was asked for.
type Write struct {
	What string // for the message
	Pool string
	// Foreign says that the pool was there without our tags when the write came.
	Foreign bool
	// Stopped says that the cluster was stopping, stopped or starting then.
	Stopped bool
	// Told says that the last look at the cluster was answered with Running, Ago how long before the write that was.
	Told bool
	Ago  time.Duration
	// Verdict is why the cloud refused it; empty: it took effect.
	Verdict string
}

// Picture is the cloud and the cluster at one moment.
type Picture struct {
	At     time.Time
	Pools  []Pool
	Claims []karpv1.NodeClaim // of our node class
	Writes []Write            // all since the start
	// Gone are claims that are no more, as they were last seen.
	Gone []karpv1.NodeClaim
}

// Checker remembers what it must between two pictures.
type Checker struct {
	// Grace is how long a machine may be named by nobody: the provisioner's own grace, two looks at the cloud, and an
	// operation.
	Grace time.Duration
	// Look is how long before a write the cluster may have been looked at: it may stop in between, which nobody can know.
	Look time.Duration
	// Released are names of claims whose owner deleted them: these may go without a reason.
	Released map[string]bool
	// Taken are names of claims whose machine or Node somebody else deleted. Core deletes the claim of a Node that is
	// deleted, and says nothing on it; the Machine, where there is one, must say why. Nobody need fill it.
	Taken map[string]bool

	unnamed map[string]time.Time
}

// Check returns what is broken, each line beginning with the invariant's number.
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

// Empty is I3: with no claims left, no pool of ours is left. It becomes true within a bounded number of steps, so it is
// asked by itself.
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

// ProviderIDs are the machines that a claim names: more than one is what I2 forbids.
func ProviderIDs(claim *karpv1.NodeClaim) []string {
	var out []string
	for _, id := range []string{claim.Status.ProviderID, claim.Annotations[AnnotationProviderID]} {
		if id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// i1: every machine in a pool of ours is named by one live claim, or awaited, or being deleted, or younger than the
// grace.
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
					fmt.Sprintf("I1: nobody names machine %s of pool %s for %s", m.ProviderID, pool.Name, age.Round(time.Second)),
				)
			}
		}
	}
	c.unnamed = unnamed
	return broken
}

// i2: no claim names two machines; no machine is named by two claims.
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

// i4: nothing that is not tagged ours is ever written to or deleted.
func i4(p Picture) []string {
	var broken []string
	for _, w := range p.Writes {
		if w.Foreign {
			broken = append(broken, fmt.Sprintf("I4: %s was asked of pool %s, which is not ours", w.What, w.Pool))
		}
	}
	return broken
}

// i5: no write is asked for while the cluster is stopping, stopped or starting, whether the cloud would take it or not.
// A write right after a look that said Running is excused: the cluster stopped in between. One without such a look is
// not, even if the cluster ran.
func (c *Checker) i5(p Picture) []string {
	var broken []string
	for _, w := range p.Writes {
		switch looked := w.Told && w.Ago <= c.Look; {
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

// pendingReasons say that a claim is on its way: they are no reason for it to go.
var pendingReasons = []string{"", "AwaitingReconciliation", "Launching", "LaunchFailed"}

// i6: every failed claim carries a typed reason before it goes.
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

// explained: it never launched and says why, or its Node never joined and it says why, or it had worked: then it was
// deleted, and did not fail.
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

// i7: no claim names a machine that an upgrade will remove again.
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
