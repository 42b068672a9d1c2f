// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

type usages struct {
	rows  []azure.Usage
	reads int
	err   error
}

func (u *usages) Usages(context.Context, string) ([]azure.Usage, error) {
	u.reads++
	return u.rows, u.err
}

func a100(machines int) Request {
	return Request{
		Size:     "Standard_NC24ads_A100_v4",
		Family:   "StandardNCADSA100v4Family",
		VCPUs:    24,
		Location: "eastus",
		Machines: machines,
	}
}

func TestRequestBeyondTheQuotaFailsWithFigures(t *testing.T) {
	p := NewPreflight(&usages{rows: []azure.Usage{
		{Name: "cores", Current: 0, Limit: 1000}, {Name: "standardNCADSA100v4Family", Current: 92, Limit: 100},
	}}, testclock.NewFakeClock(time.Unix(0, 0)))
	fit, why, err := p.Fit(t.Context(), a100(1))
	require.NoError(t, err)
	assert.Zero(t, fit)
	require.NotNil(t, why)
	assert.Equal(t, karpenterv1alpha5.ReasonQuotaExceeded, why.Reason)
	assert.Equal(
		t, "1 × Standard_NC24ads_A100_v4 in eastus needs 24 vCPUs of StandardNCADSA100v4Family, has 8 of 100 left",
		why.Message,
	)
	assert.Contains(t, why.Remedy, "--limit-object value=116")
}

func TestTightestQuotaDecides(t *testing.T) {
	for name, tc := range map[string]struct {
		rows   []azure.Usage
		spot   bool
		fit    int
		reason string
	}{
		"all fit":                          {[]azure.Usage{{Name: "cores", Limit: 1000}, {Name: "Standard NCADS A100v4 Family", Limit: 96}}, false, 4, ""},
		"the family's":                     {[]azure.Usage{{Name: "cores", Limit: 1000}, {Name: "StandardNCADSA100v4Family", Limit: 71}}, false, 2, karpenterv1alpha5.ReasonQuotaExceeded},
		"the region's":                     {[]azure.Usage{{Name: "cores", Current: 70, Limit: 100}, {Name: "StandardNCADSA100v4Family", Limit: 96}}, false, 1, karpenterv1alpha5.ReasonRegionalQuotaExceeded},
		"the spot quota, not the family's": {[]azure.Usage{{Name: "lowPriorityCores", Limit: 48}, {Name: "StandardNCADSA100v4Family", Limit: 0}}, true, 2, karpenterv1alpha5.ReasonSpotQuotaExceeded},
		"usage above the limit":            {[]azure.Usage{{Name: "cores", Current: 200, Limit: 100}}, false, 0, karpenterv1alpha5.ReasonRegionalQuotaExceeded},
		"an unknown family":                {[]azure.Usage{{Name: "cores", Limit: 1000}}, false, 4, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPreflight(&usages{rows: tc.rows}, testclock.NewFakeClock(time.Unix(0, 0)))
			request := a100(4)
			request.Spot = tc.spot
			fit, why, err := p.Fit(t.Context(), request)
			require.NoError(t, err)
			assert.Equal(t, tc.fit, fit)
			if tc.reason == "" {
				assert.Nil(t, why)
			} else {
				require.NotNil(t, why)
				assert.Equal(t, tc.reason, why.Reason)
			}
		})
	}
}

func TestUsagesAreCachedAndCountRequests(t *testing.T) {
	clk := testclock.NewFakeClock(time.Unix(0, 0))
	u := &usages{rows: []azure.Usage{{Name: "cores", Limit: 1000}, {Name: "StandardNCADSA100v4Family", Limit: 48}}}
	p := NewPreflight(u, clk)
	fit, _, err := p.Fit(t.Context(), a100(2))
	require.NoError(t, err)
	require.Equal(t, 2, fit)
	p.Took("g0", a100(2))
	fit, why, err := p.Fit(t.Context(), a100(1))
	require.NoError(t, err)
	assert.Zero(t, fit, "the room was given away a moment ago")
	assert.NotNil(t, why)
	assert.Equal(t, 1, u.reads)
	clk.Step(time.Minute)
	fit, _, err = p.Fit(t.Context(), a100(1))
	require.NoError(t, err)
	assert.Equal(t, 1, fit)
	assert.Equal(t, 2, u.reads)
}

func TestRefund(t *testing.T) {
	rows := []azure.Usage{{Name: "cores", Limit: 1000}, {Name: "StandardNCADSA100v4Family", Limit: 72}}
	for name, tc := range map[string]struct {
		then func(p *Preflight, clk *testclock.FakeClock)
		fit  int
	}{
		"it failed":                       {func(p *Preflight, _ *testclock.FakeClock) { p.Refund("g0", 0) }, 3},
		"it failed twice":                 {func(p *Preflight, _ *testclock.FakeClock) { p.Refund("g0", 0); p.Refund("g0", 0) }, 3},
		"it failed after one was created": {func(p *Preflight, _ *testclock.FakeClock) { p.Refund("g0", 1) }, 2},
		"it went well":                    {func(p *Preflight, _ *testclock.FakeClock) { p.Settle("g0"); p.Refund("g0", 0) }, 1},
		"another pool's failed":           {func(p *Preflight, _ *testclock.FakeClock) { p.Refund("g1", 0) }, 1},
		"the usages were read meanwhile": {func(p *Preflight, clk *testclock.FakeClock) {
			clk.Step(time.Minute)
			_, _, err := p.Fit(t.Context(), a100(1))
			require.NoError(t, err)
			p.Took("g1", a100(1))
			p.Refund("g0", 0)
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			clk := testclock.NewFakeClock(time.Unix(0, 0))
			p := NewPreflight(&usages{rows: rows}, clk)
			_, _, err := p.Fit(t.Context(), a100(2))
			require.NoError(t, err)
			p.Took("g0", a100(2))
			tc.then(p, clk)
			fit, _, err := p.Fit(t.Context(), a100(4))
			require.NoError(t, err)
			assert.Equal(t, tc.fit, fit)
		})
	}
}

func TestUnreadableQuotaIsAnError(t *testing.T) {
	p := NewPreflight(&usages{err: errors.New("down")}, testclock.NewFakeClock(time.Unix(0, 0)))
	_, why, err := p.Fit(t.Context(), a100(1))
	assert.Error(t, err)
	assert.Nil(t, why)
}
