// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// cacheFor is the time for which a region's usages are cached.
const cacheFor = time.Minute

// Names in the compute usages API of the usages that are not of a family.
const (
	usageRegional = "cores"
	usageSpot     = "lowPriorityCores"
)

// Reader lists the subscription's usages in a region. *azure.ARM implements it.
type Reader interface {
	Usages(ctx context.Context, location string) ([]azure.Usage, error)
}

// Request is a request for machines.
type Request struct {
	Size     string
	Family   string // quota family of the size; empty: unknown
	VCPUs    int64  // of one machine; 0: unknown
	Spot     bool
	Location string
	Machines int
}

// Preflight checks requests against cached usages.
type Preflight struct {
	reader Reader
	clock  clock.PassiveClock

	mu     sync.Mutex
	at     time.Time
	of     string
	usages map[string]azure.Usage
	taken  map[string]Request // by agent pool: by what the usages were raised since they were read
}

// NewPreflight returns a Preflight with an empty cache.
func NewPreflight(r Reader, c clock.PassiveClock) *Preflight {
	return &Preflight{reader: r, clock: c}
}

// Fit returns how many of the machines the quota has room for. If it is not all of them, the *azure.Error explains why
// with figures. It is nil as well if the size's quota is not known; Azure checks it in any case. The error is about
// reading the usages.
func (p *Preflight) Fit(ctx context.Context, r Request) (int, *azure.Error, error) {
	if r.VCPUs <= 0 || r.Machines <= 0 {
		return r.Machines, nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.read(ctx, r.Location); err != nil {
		return 0, nil, err
	}
	fit, why := r.Machines, (*azure.Error)(nil)
	for _, limit := range r.limits() {
		usage, ok := p.usages[normalize(limit.usage)]
		if !ok {
			continue
		}
		room := max(0, usage.Limit-usage.Current)
		if n := int(room / r.VCPUs); n < fit {
			fit, why = n, r.exceeded(limit, usage)
		}
	}
	return fit, why, nil
}

// Took adds machines that Azure has agreed to create in an agent pool to the cached usages, so that two requests within
// a minute do not both use the same room. Call Settle or Refund when the operation has ended.
func (p *Preflight) Took(pool string, r Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.usages == nil {
		return
	}
	p.count(r, r.Machines)
	p.taken[pool] = r
}

// Refund subtracts what Took added for the pool, except for the machines that were created. It does nothing if the
// usages were read since, because they are Azure's own figures then.
func (p *Preflight) Refund(pool string, arrived int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.taken[pool]; ok {
		p.count(r, -max(0, r.Machines-arrived))
		delete(p.taken, pool)
	}
}

// Settle keeps what Took added for the pool: Azure has created the machines.
func (p *Preflight) Settle(pool string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, pool)
}

func (p *Preflight) count(r Request, machines int) {
	for _, limit := range r.limits() {
		if usage, ok := p.usages[normalize(limit.usage)]; ok {
			usage.Current += r.VCPUs * int64(machines)
			p.usages[normalize(limit.usage)] = usage
		}
	}
}

func (p *Preflight) read(ctx context.Context, location string) error {
	if p.of == location && p.clock.Since(p.at) < cacheFor && p.usages != nil {
		return nil
	}
	usages, err := p.reader.Usages(ctx, location)
	if err != nil {
		return err
	}
	p.at, p.of, p.usages, p.taken = p.clock.Now(), location, map[string]azure.Usage{}, map[string]Request{}
	for _, u := range usages {
		p.usages[normalize(u.Name)] = u
	}
	return nil
}

type limit struct {
	usage, label, reason string
	scope                azure.Scope
}

func (r Request) limits() []limit {
	if r.Spot {
		// Spot machines of all families count against one quota of the region.
		return []limit{{usageSpot, "low-priority vCPUs", karpenterv1alpha5.ReasonSpotQuotaExceeded, azure.ScopeSpot}}
	}
	out := []limit{{usageRegional, "regional vCPUs", karpenterv1alpha5.ReasonRegionalQuotaExceeded, azure.ScopeRegion}}
	if r.Family != "" {
		out = append(out, limit{r.Family, "vCPUs of " + r.Family, karpenterv1alpha5.ReasonQuotaExceeded, azure.ScopeFamily})
	}
	return out
}

func (r Request) exceeded(l limit, u azure.Usage) *azure.Error {
	needs := r.VCPUs * int64(r.Machines)
	left := max(0, u.Limit-u.Current)
	return &azure.Error{
		Reason: l.reason,
		Class:  azure.ClassCapacity,
		Scope:  l.scope,
		Message: fmt.Sprintf(
			"%d × %s in %s needs %d %s, has %d of %d left", r.Machines, r.Size, r.Location, needs, l.label, left, u.Limit,
		),
		Remedy: azure.QuotaRemedy(l.usage, r.Location, u.Current+needs),
	}
}

// normalize makes names comparable: those of the usages API and of the catalogue differ in case and spaces ("Standard
// NCASv3_T4 Family").
func normalize(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, " ", ""))
}
