// SPDX-License-Identifier: Apache-2.0

package invariant

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func claim(name, annotated, status string) karpv1.NodeClaim {
	c := karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if annotated != "" {
		c.Annotations = map[string]string{AnnotationProviderID: annotated}
	}
	c.Status.ProviderID = status
	return c
}

func pool(machines ...string) Pool {
	p := Pool{Name: "g0", Ours: true, Count: len(machines)}
	for _, id := range machines {
		p.Machines = append(p.Machines, Machine{ProviderID: id})
	}
	return p
}

// numbers returns the invariants that the lines name.
func numbers(lines []string) string {
	var out []string
	for _, l := range lines {
		out = append(out, l[:2])
	}
	return strings.Join(out, " ")
}

func TestEachViolationIsReportedAlone(t *testing.T) {
	failed := claim("failed", "", "")
	failed.StatusConditions().SetUnknownWithReason(karpv1.ConditionTypeLaunched, "QuotaExceeded", "")
	silent := claim("silent", "", "")
	silent.StatusConditions().SetUnknownWithReason(karpv1.ConditionTypeLaunched, "Launching", "")
	lost := claim("lost", "", "m1")
	lost.StatusConditions().SetTrue(karpv1.ConditionTypeLaunched)
	told := *lost.DeepCopy()
	told.StatusConditions().SetFalse(karpv1.ConditionTypeRegistered, "NodeNeverJoined", "")
	busy := pool("m1")
	busy.Busy = true
	leaving := pool("m1")
	leaving.Machines[0].Leaving = true
	foreign := pool("m1")
	foreign.Ours = false
	upgraded := pool("m1", "m2")
	upgraded.Busy = true
	upgraded.Machines[1].Surge = true

	for name, tc := range map[string]struct {
		picture Picture
		want    string
	}{
		"all is well":                     {Picture{Pools: []Pool{pool("m1")}, Claims: []karpv1.NodeClaim{claim("a", "m1", "m1")}}, ""},
		"machine without a claim":         {Picture{Pools: []Pool{pool("m1", "m2")}, Claims: []karpv1.NodeClaim{claim("a", "m1", "")}}, "I1"},
		"one that is awaited":             {Picture{Pools: []Pool{pool("m1")}, Claims: []karpv1.NodeClaim{claim("a", "", "")}}, ""},
		"one of a busy pool":              {Picture{Pools: []Pool{busy}}, ""},
		"one that is being deleted":       {Picture{Pools: []Pool{leaving}}, ""},
		"pool of another owner":           {Picture{Pools: []Pool{foreign}}, ""},
		"a claim with two machines":       {Picture{Claims: []karpv1.NodeClaim{claim("a", "m1", "m2")}}, "I2"},
		"a machine of two claims":         {Picture{Claims: []karpv1.NodeClaim{claim("a", "m1", ""), claim("b", "", "m1")}}, "I2"},
		"a claim on a surge machine":      {Picture{Pools: []Pool{upgraded}, Claims: []karpv1.NodeClaim{claim("a", "m2", "")}}, "I7"},
		"one beside a surge machine":      {Picture{Pools: []Pool{upgraded}, Claims: []karpv1.NodeClaim{claim("a", "m1", "")}}, ""},
		"a write to a foreign pool":       {Picture{Writes: []Write{{What: "PUT", Pool: "user", Foreign: true, PowerRead: true}}}, "I4"},
		"one that was refused":            {Picture{Writes: []Write{{What: "PUT", Pool: "user", Foreign: true, PowerRead: true, Verdict: "412"}}}, "I4"},
		"a write while stopped":           {Picture{Writes: []Write{{What: "PUT", Pool: "g0", Stopped: true}}}, "I5"},
		"one that was refused then":       {Picture{Writes: []Write{{What: "PUT", Pool: "g0", Stopped: true, Verdict: "409"}}}, "I5"},
		"one that the stop overtook":      {Picture{Writes: []Write{{What: "PUT", Pool: "g0", Stopped: true, PowerRead: true, Ago: time.Second}}}, ""},
		"a write after an old read":       {Picture{Writes: []Write{{What: "PUT", Pool: "g0", PowerRead: true, Ago: time.Minute}}}, "I5"},
		"a claim that went with a reason": {Picture{Gone: []karpv1.NodeClaim{failed, told}}, ""},
		"a claim that went without one":   {Picture{Gone: []karpv1.NodeClaim{silent}}, "I6"},
		"a launched one without one":      {Picture{Gone: []karpv1.NodeClaim{lost}}, "I6"},
		"one whose Node was deleted":      {Picture{Gone: []karpv1.NodeClaim{claim("taken", "", "")}}, ""},
		"one that its owner deleted":      {Picture{Gone: []karpv1.NodeClaim{claim("owners", "", "")}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Checker{
				Grace:    time.Minute,
				Look:     5 * time.Second,
				Released: map[string]bool{"owners": true},
				Taken:    map[string]bool{"taken": true},
			}
			tc.picture.At = noon
			first := numbers(c.Check(tc.picture))
			if tc.want == "I1" {
				assert.Empty(t, first, "within the grace")
			}
			tc.picture.At = noon.Add(2 * time.Minute)
			assert.Equal(t, tc.want, numbers(c.Check(tc.picture)))
		})
	}
}

func TestGraceStartsAgainAfterABinding(t *testing.T) {
	c := &Checker{Grace: time.Minute}
	lonely := Picture{At: noon, Pools: []Pool{pool("m1")}}
	c.Check(lonely)
	c.Check(Picture{At: noon.Add(time.Minute), Pools: lonely.Pools, Claims: []karpv1.NodeClaim{claim("a", "m1", "")}})
	lonely.At = noon.Add(2 * time.Minute)
	assert.Empty(t, c.Check(lonely))
}

func TestPoolThatOutlivesTheClaimsIsReported(t *testing.T) {
	assert.Equal(t, "I3", numbers(Empty(Picture{Pools: []Pool{pool("m1")}})))
	assert.Empty(t, Empty(Picture{Pools: []Pool{pool("m1")}, Claims: []karpv1.NodeClaim{claim("a", "m1", "")}}))
	assert.Empty(t, Empty(Picture{Pools: []Pool{{Name: "user"}}}))
}
