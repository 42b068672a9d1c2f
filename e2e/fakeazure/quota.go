// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// plenty is the limit of a quota that is not set.
const plenty = 100_000

// Names of the regional and low-priority quotas in the usages API.
const (
	regionalCores = "cores"
	spotCores     = "lowPriorityCores"
)

// quotas returns usage and limits by name.
func (s *Server) quotas() map[string]Quota {
	out := map[string]Quota{regionalCores: s.options.RegionalQuota, spotCores: s.options.SpotQuota}
	for family, quota := range s.options.FamilyQuota {
		out[family] = quota
	}
	for _, size := range s.catalog.Sizes() {
		if _, set := out[size.QuotaFamily]; !set {
			out[size.QuotaFamily] = Quota{Limit: plenty}
		}
	}
	for _, name := range []string{regionalCores, spotCores} {
		if out[name].Limit == 0 {
			out[name] = Quota{Limit: plenty, Used: out[name].Used}
		}
	}
	for _, p := range s.pools {
		s.use(out, p, len(p.Machines)) // only existing machines use quota
	}
	return out
}

// use adds machines of a pool to the quotas that they need, and returns the quotas' names.
func (s *Server) use(quotas map[string]Quota, p *pool, count int) []string {
	size, err := s.catalog.Size(p.text("vmSize"))
	if err != nil {
		return nil // sizes outside the catalogue are not counted
	}
	names := []string{size.QuotaFamily, regionalCores}
	if p.spot() {
		names = []string{spotCores}
	}
	for _, name := range names {
		quota := quotas[name]
		quota.Used += int64(count * size.VCPUs)
		quotas[name] = quota
	}
	return names
}

// quota rejects machines beyond the quota, as AKS does.
func (s *Server) quota(p *pool, more int) *apiError {
	if more <= 0 {
		return nil
	}
	before, after := s.quotas(), s.quotas()
	for _, name := range s.use(after, p, more) {
		if after[name].Used <= after[name].Limit {
			continue
		}
		what := name + " Cores"
		switch name {
		case regionalCores:
			what = "Total Regional Cores"
		case spotCores:
			what = "LowPriorityCores"
		}
		needed := after[name].Used - before[name].Used
		return &apiError{HTTP: http.StatusBadRequest, Code: "ErrCode_InsufficientVCPUQuota", AKS: true,
			Message: fill(quotaMessage(what), map[string]string{
				"location": s.options.Location, "limit": fmt.Sprint(before[name].Limit), "usage": fmt.Sprint(before[name].Used),
				"needed": fmt.Sprint(needed), "minimum": fmt.Sprint(after[name].Used),
			})}
	}
	return nil
}

func (s *Server) listUsages(c *call) *apiError {
	quotas := s.quotas()
	names := make([]string, 0, len(quotas))
	for name := range quotas {
		names = append(names, name)
	}
	sort.Strings(names)
	var items []item
	for _, name := range names {
		items = append(items, item{name, map[string]any{
			"unit": "Count", "currentValue": quotas[name].Used, "limit": quotas[name].Limit,
			"name": map[string]any{"value": name, "localizedValue": name},
		}})
	}
	s.page(c, items)
	return nil
}

func (s *Server) listSKUs(c *call) *apiError {
	var items []item
	for _, size := range s.catalog.Sizes() {
		items = append(items, item{
			size.Name,
			map[string]any{
				"resourceType": "virtualMachines",
				"name":         size.Name,
				"family":       size.QuotaFamily,
				"locations":    []string{s.options.Location},
				"locationInfo": []any{map[string]any{"location": s.options.Location, "zones": []string{"1", "2", "3"}}},
				"capabilities": []any{
					map[string]any{
						"name":  "vCPUs",
						"value": fmt.Sprint(size.VCPUs),
					},
					map[string]any{"name": "GPUs", "value": fmt.Sprint(size.GPUs)},
				},
				"restrictions": []any{},
				"tier":         strings.SplitN(size.Name, "_", 2)[0],
			},
		})
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	s.page(c, items)
	return nil
}

// offered returns whether the subscription can use a size: those of the catalogue, and common ones without GPUs, which
// are recognized by their names.
func (s *Server) offered(size string) bool {
	_, err := s.catalog.Size(size)
	return err == nil || ordinarySize.MatchString(size)
}

// ordinarySize matches general, compute and memory sizes: A, B, D, E and F of
// https://learn.microsoft.com/azure/virtual-machines/sizes.
var ordinarySize = regexp.MustCompile(`^Standard_[ABDEF]S?[0-9]+[a-z]*(_v[0-9])?$`)
