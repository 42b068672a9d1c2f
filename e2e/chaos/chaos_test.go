// SPDX-License-Identifier: Apache-2.0

// Package chaos_test runs the whole stack with injected failures: many Workspaces at once, operators that are killed at
// random, an API server that crashes, an Azure that fails as the seed says, and another client that writes to the same
// objects. It checks that every Workspace becomes Ready, or has a reason that Azure really gave, that no node is
// rented twice, and that none is left.
//
// Package e2e/provisioner/chaos goes deeper into one operator: there a step is a call. Here processes and clocks are
// real, so that a seed decides what happens in which order, and not to the millisecond when.
package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/invariant"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/eventually"
)

// What make test runs; `make chaos-fleet N=… SEED=…` has them in the environment.
const (
	workspacesOfATest = 10
	seedOfATest       = 1
)

// flags are what is short where a real Azure and real GPU nodes take minutes.
var flags = map[stack.Operator][]string{
	stack.GPUProvisioner: {
		"--gather=200ms",
		"--patience=10s",
		"--surplus-grace=5s",
		"--refresh-active=1s",
		"--refresh-idle=3s",
		"--operation-timeout=30s",
		"--node-join-timeout=60s",
		"--gpu-ready-timeout=20s",
		"--azure-call-rate=100",
	},
	stack.WorkspaceOperator: {"--gpu-ready-timeout=30s", "--node-lost-timeout=15s"},
}

func TestTheWholeHouseInTroubleEndsInTruth(t *testing.T) {
	seed, n := number(t, "SEED", seedOfATest), int(
		number(t, "N", workspacesOfATest),
	) //nolint:gosec // a number of Workspaces
	replay := fmt.Sprintf("make chaos-fleet N=%d SEED=%d", n, seed)
	t.Logf("seed %d, %d Workspaces: %s", seed, n, replay)
	w := newWorld(t, seed, n)
	start := time.Now()
	w.trouble()
	t.Logf("%d steps of trouble in %s: %s", w.step, time.Since(start).Round(time.Second), w.counted())
	w.calm()
	w.settle()
	if os.Getenv("N") != "" {
		w.insist() // what Azure has refused is remembered for minutes, which make test does not have
	}
	w.everythingIsAsItShould()
	w.leave()
	if t.Failed() {
		t.Logf("replay this with: %s", replay)
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseUint(text, 10, 32)
	require.NoError(t, err, "%s=%q must be a number", name, text)
	return value
}

// world is a stack with injected failures.
type world struct {
	*testing.T
	*stack.Stack
	seed   uint64
	random *rand.Rand
	step   int
	// patience bounds what all Workspaces wait for together.
	patience time.Duration
	guests   []*guest
	// down are operators that are dead, and the step at which they are started again.
	down map[stack.Operator]int
	// done counts what has happened, by its name.
	done map[string]int
	// befallen are the reasons that Azure has been given for a size; "" is for all sizes.
	befallen map[string]map[string]bool
	checker  invariant.Checker
}

func newWorld(t *testing.T, seed uint64, n int) *world {
	t.Helper()
	args := map[stack.Operator][]string{}
	for _, o := range stack.Operators {
		args[o] = append([]string{"--leader-elect=false"}, flags[o]...)
	}
	random := chance(seed, 0)
	args[stack.WorkspaceOperator] = append(
		args[stack.WorkspaceOperator], "--node-api="+pick(random, []string{"machine", "nodeclaim"}),
	)
	w := &world{
		T:        t,
		seed:     seed,
		random:   random,
		down:     map[stack.Operator]int{},
		done:     map[string]int{},
		befallen: map[string]map[string]bool{},
		patience: 3*eventually.Long + time.Duration(n)*5*time.Second,
		// The provisioner's grace, two observations, an operation, and the downtime of killed operators. The cluster is not
		// stopped here.
		checker: invariant.Checker{
			Grace:    3 * time.Minute,
			Look:     time.Hour,
			Released: map[string]bool{},
			Taken:    map[string]bool{},
		},
	}
	w.Stack = stacktest.Start(t, stack.Options{Args: args, Azure: func(o *fakeazure.Options) {
		o.Limits.Off = true // throttling comes as a fault
		o.FamilyQuota = map[string]fakeazure.Quota{poorFamily: {Limit: 2}}
	}})
	// Karpenter adds its types to client-go's global scheme alone.
	v1 := schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
	w.Client.Scheme().AddKnownTypes(v1, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{})
	metav1.AddToGroupVersion(w.Client.Scheme(), v1)
	w.invite(n)
	return w
}

// chance is what a step of a seed decides by.
func chance(seed uint64, step int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(step))) //nolint:gosec // what it decides must come again with the seed
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }
