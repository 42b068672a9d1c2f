// SPDX-License-Identifier: Apache-2.0

// Package quota asks, before Azure is asked for machines, whether the subscription's quota has room for them.
package quota

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// cacheFor is how long a region's usages are believed.
const cacheFor = time.Minute

// Names of the usages that are no family, as the compute usages API has them.
const (
	usageRegional = "cores"
	usageSpot     = "lowPriorityCores"
)

// Reader lists the subscription's usages in a region; *azure.ARM is one.
type Reader interface {
	Usages(ctx context.Context, location string) ([]azure.Usage, error)
}

// Request is what is about to be asked of Azure.
type Request struct {
	Size     string
	Family   string // quota family of the size; "": unknown
	VCPUs    int64  // of one machine; 0: unknown
	Spot     bool
	Location string
	Machines int
}

// Preflight answers from usages that it caches.
type Preflight struct {
	reader Reader
	clock  clock.PassiveClock

	mu     sync.Mutex
	at     time.Time
	of     string
	usages map[string]azure.Usage
	taken  map[string]Request // by agent pool: what the usages were raised by since they were read
}

// NewPreflight returns a preflight with nothing cached.
func NewPreflight(r Reader, c clock.PassiveClock) *Preflight {
	return &Preflight{reader: r, clock: c}
}

// Fit says how many of the machines the quota has room for. The *azure.Error explains, with the numbers, why it is not
// all of them; it is nil when it is, and when the quota is not known: then Azure itself will tell. The error is of the
// reading.
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

// Took counts machines that Azure has agreed to make in an agent pool into the cached usages, so that two requests
// within the minute do not both count on the same room. Settle or Refund ends it.
func (p *Preflight) Took(pool string, r Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.usages == nil {
		return
	}
	p.count(r, r.Machines)
	p.taken[pool] = r
}

// Refund takes back what Took counted for the pool, but for the machines that have arrived: Azure did not make the
// others. It does nothing when the usages were read since, as those are Azure's own figures.
func (p *Preflight) Refund(pool string, arrived int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.taken[pool]; ok {
		p.count(r, -max(0, r.Machines-arrived))
		delete(p.taken, pool)
	}
}

// Settle leaves what Took counted for the pool as it is: Azure has made the machines.
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
		// Spot machines count against one quota of the region, whatever their family.
		return []limit{{usageSpot, "low-priority vCPUs", azure.ReasonSpotQuotaExceeded, azure.ScopeSpot}}
	}
	out := []limit{{usageRegional, "regional vCPUs", azure.ReasonRegionalQuotaExceeded, azure.ScopeRegion}}
	if r.Family != "" {
		out = append(out, limit{r.Family, "vCPUs of " + r.Family, azure.ReasonQuotaExceeded, azure.ScopeFamily})
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

// normalize: the usages API and the size catalogue differ in case and blanks ("Standard NCASv3_T4 Family").
func normalize(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, " ", ""))
}
