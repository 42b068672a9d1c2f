// SPDX-License-Identifier: Apache-2.0

// Package scale_test asks the built gpu-provisioner for many nodes at once, on a real API server and a fake Azure that
// keeps the documented limits, and holds what that costs to bars.
//
// Azure's clock runs -speed times as fast as the real one: its operations of three minutes and its token buckets with
// it. The operator's own clock is the real one, so that its intervals are divided by -speed, and the rates that it
// keeps to are multiplied (--azure-call-rate): a call costs it what it would in real time. What belongs to the API
// server is not on the fast clock: the pace at which claims come, and so --gather and --patience; core's drain of five
// seconds; Retry-After. So the simulated times that are reported are longer than real ones would be. -speed=1 is real
// time.
package scale_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
)

var (
	number = flag.Int(
		"n", 40,
		"Machines that are asked for at once; the bars on calls hold from 200 on, below which the fixed cost of looking prevails",
	)
	speed = flag.Float64("speed", 60, "simulated seconds in a real one, 1 to 100")
)

// Azure takes so long; three minutes is what a GPU pool takes in the field.
var durations = fakeazure.Durations{
	CreatePool: 3 * time.Minute, Scale: 3 * time.Minute, DeletePool: 3 * time.Minute, DeleteMachines: 3 * time.Minute,
	VMBoot: time.Minute, NodeJoin: 90 * time.Second,
}

// shared is the stack of all tests, which run one after another.
var shared struct {
	*stack.Stack
	record *record
}

func TestMain(m *testing.M) {
	flag.Parse()
	shared.record = &record{}
	os.Exit(stacktest.Main(m, stack.Options{
		Operators: []stack.Operator{stack.GPUProvisioner},
		Args:      map[stack.Operator][]string{stack.GPUProvisioner: arguments()},
		Azure:     setUp,
	}, func(s *stack.Stack) { shared.Stack = s }))
}

func setUp(o *fakeazure.Options) {
	o.Clock, o.Durations = fakeazure.Accelerated(*speed), durations
	o.OnRequest, o.OnAnswer = shared.record.asked, shared.record.answered
	shared.record.refuse = func(f fakeazure.Fault) { shared.Azure.AddFault(f) }
}

// arguments are the operator's defaults on the fast clock.
func arguments() []string {
	fast := func(d time.Duration) time.Duration { return time.Duration(float64(d) / *speed) }
	return []string{
		fmt.Sprintf("--azure-call-rate=%g", *speed),
		fmt.Sprintf("--max-nodes-per-pool=%d", perPool()),
		fmt.Sprintf("--surplus-grace=%s", fast(time.Minute)),
		fmt.Sprintf("--refresh-active=%s", fast(10*time.Second)), fmt.Sprintf("--refresh-idle=%s", fast(time.Minute)),
		// On a machine that is short of CPU the lease of ten seconds is lost before anything else.
		"--leader-elect=false",
	}
}

// perPool is the operator's default at 500 Machines; fewer are spread over as many pools.
func perPool() int { return min(100, max(1, *number/5)) }
