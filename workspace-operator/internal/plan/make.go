// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// Make decides. The same request, catalogue and engine give the same plan; the error is a *Refusal. Nodes that were
// rented before, and existing nodes, are preferred to new ones.
func Make(r Request, c *catalog.Catalog, e engine.Engine) (*Plan, error) {
	r.InstanceTypes = asAzureNamesThem(r.InstanceTypes, c)
	if r.OnlyExisting {
		var err error
		if r, err = onlyExisting(r, c); err != nil {
			return nil, err
		}
	}
	for _, narrowed := range withoutNewNodes(r, c) {
		if p, err := decide(narrowed, c, e); err == nil {
			return p, nil
		}
	}
	p, err := decide(r, c, e)
	if err != nil {
		return nil, withChoices(err, r, c, e)
	}
	return p, nil
}

// asAzureNamesThem has the sizes' own names, which nodes and earlier choices have, instead of aliases. A name that is
// not known stays, for the refusal.
func asAzureNamesThem(names []string, c *catalog.Catalog) []string {
	out := slices.Clone(names)
	for i, name := range names {
		if size, err := c.Size(name); err == nil {
			out[i] = size.Name
		}
	}
	return out
}

// decide evaluates every allowed choice and takes the best one.
func decide(r Request, c *catalog.Catalog, e engine.Engine) (*Plan, error) {
	q, err := ask(r, c, e)
	if err != nil {
		return nil, err
	}
	options, err := q.options()
	if err != nil {
		return nil, err
	}
	var candidates, barred []Candidate
	var feasible []*Plan
	var until time.Time
	resting := 0
	for _, o := range options {
		p, why := q.evaluate(o)
		if why == nil && r.Forbidden != nil {
			if text := r.Forbidden(p); text != "" {
				why = fell(CauseBudget, "%s", text)
				barred = append(barred, p.candidate(why))
			}
		}
		if free, rests := r.Resting[o.choice()]; rests && why == nil {
			why = fell(CauseResting, "failed lately: it is asked for again after %s", free.UTC().Format(time.RFC3339))
			resting++
			if until.IsZero() || free.Before(until) {
				until = free
			}
		}
		candidates = append(candidates, p.candidate(why))
		if why == nil {
			feasible = append(feasible, p)
		}
	}
	if len(feasible) == 0 {
		if resting == 0 && len(barred) > 0 {
			return nil, &Refusal{
				Reason:     kaitov1alpha1.ReasonBudgetExceeded,
				Candidates: candidates,
				Message: "no choice that fits is allowed: " + list(
					barred, 4,
				) + ". Name an allowed size in resource.instanceType, or leave it empty for the cheapest that is allowed and fits; or ask the administrator of the namespace to change the budget",
			}
		}
		return nil, q.refuse(candidates, resting, until)
	}
	best := feasible[0]
	if len(q.request.InstanceTypes) == 0 && len(q.request.Sizes) == 0 {
		best = slices.MinFunc(feasible, preferred)
	}
	slices.SortStableFunc(candidates, func(a, b Candidate) int {
		return rank(a, best) - rank(b, best)
	})
	best.Candidates, best.Warnings = candidates, q.warnings(best, feasible)
	best.Args, best.OwnTemplate = q.args(best)
	if r.AdapterRank > 0 {
		best.AdapterRank = e.LoraRank(r.AdapterRank)
	}
	best.DiskGiB = q.disk()
	return best, nil
}

// rank puts the chosen candidate first, then the feasible ones, then those that fell.
func rank(c Candidate, best *Plan) int {
	switch {
	case c.InstanceType == best.InstanceType && c.CapacityType == best.CapacityType:
		return 0
	case c.Rejected == "":
		return 1
	}
	return 2
}

// preferred is a total order: what Azure still offers, price, then nodes, then name; plans of one size keep the order
// of their capacity types. A pipeline over the network is the last resort: where one node is enough, it is preferred
// even if it costs more.
func preferred(a, b *Plan) int {
	switch {
	case (a.Size.Retired == "") != (b.Size.Retired == ""):
		if a.Size.Retired == "" {
			return -1
		}
		return 1
	case (a.Nodes > 1) != (b.Nodes > 1):
		if a.Nodes == 1 {
			return -1
		}
		return 1
	case a.CostPerHour != b.CostPerHour:
		if a.CostPerHour < b.CostPerHour {
			return -1
		}
		return 1
	case a.Nodes != b.Nodes:
		return a.Nodes - b.Nodes
	}
	return strings.Compare(a.InstanceType, b.InstanceType)
}

// option is one size at one capacity type.
type option struct {
	size     catalog.Size
	capacity string
}

func (o option) choice() Choice {
	return Choice{InstanceType: o.size.Name, CapacityType: kaitov1alpha1.CapacityType(o.capacity)}
}

// options returns the choices in the order of the user's preference, or of the catalogue.
func (q *question) options() ([]option, error) {
	sizes, err := q.sizes()
	if err != nil {
		return nil, err
	}
	var out []option
	for _, size := range sizes {
		for _, capacity := range q.request.CapacityTypes {
			out = append(out, option{size, capacity})
		}
	}
	return out, nil
}

func (q *question) sizes() ([]catalog.Size, error) {
	if len(q.request.Sizes) > 0 {
		return q.request.Sizes, nil
	}
	var sizes []catalog.Size
	for _, name := range q.request.InstanceTypes {
		size, err := q.catalog.Size(name)
		if err != nil {
			return nil, &Refusal{
				Reason: kaitov1alpha1.ReasonUnknownInstanceType,
				Message: fmt.Sprintf(
					"resource.instanceType is %q: %s. Choose a GPU size of the catalogue, or leave it empty for the cheapest that fits",
					name, err,
				),
			}
		}
		sizes = append(sizes, size)
	}
	chosen := len(sizes) > 0
	if !chosen {
		if q.request.Mode == ModeTemplate {
			return nil, &Refusal{
				Reason:  kaitov1alpha1.ReasonInvalidSpec,
				Message: "resource.instanceType is empty: with inference.template nothing is known of the memory that is needed; name a size",
			}
		}
		for _, size := range q.catalog.Sizes() {
			if _, priced := q.price(size.Name, catalog.CapacityOnDemand); priced && size.Needs == "" {
				sizes = append(sizes, size)
			}
		}
	}
	if q.request.MIGProfile == "" {
		return sizes, nil
	}
	var cut []catalog.Size
	for _, size := range sizes {
		partitioned, err := q.catalog.Partition(size, q.request.MIGProfile)
		var wrong *catalog.PartitionError
		switch {
		case errors.As(err, &wrong) && chosen:
			return nil, &Refusal{Reason: kaitov1alpha1.ReasonInvalidSpec, Message: "resource.partition.profile: " + err.Error()}
		case err == nil:
			cut = append(cut, partitioned)
		}
	}
	if len(cut) == 0 {
		return nil, &Refusal{
			Reason:  kaitov1alpha1.ReasonInvalidSpec,
			Message: fmt.Sprintf("resource.partition.profile is %q: no size of the catalogue has it", q.request.MIGProfile),
		}
	}
	return cut, nil
}

func (q *question) price(size, capacity string) (catalog.Price, bool) {
	return Price(q.catalog, q.request.Region, size, capacity)
}

// Price is the list price of a node that plans have: that of the region, or the lowest of all where the region is empty
// or has no prices.
func Price(c *catalog.Catalog, region, size, capacity string) (catalog.Price, bool) {
	if region != "" && c.KnowsRegion(region) {
		return c.Price(size, region, capacity)
	}
	return c.LowestPrice(size)
}
