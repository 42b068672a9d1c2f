// SPDX-License-Identifier: Apache-2.0

// Package budget_test shows that a GPUBudget holds: many Workspaces at once over a budget of a few nodes, with the
// workspace-operator killed at random. The operators are processes, the API server is real, and Azure is simulated.
package budget_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
)

// What make test runs; `make chaos-budget N=… BUDGET=… SEED=…` has them in the environment.
const (
	workspacesOfATest = 20
	budgetOfATest     = 4
	seedOfATest       = 1
)

// flags are what is short where a real Azure and real GPU nodes take minutes.
var flags = map[stack.Operator][]string{
	stack.GPUProvisioner: {
		"--gather=200ms",
		"--surplus-grace=5s",
		"--refresh-active=1s",
		"--refresh-idle=3s",
		"--operation-timeout=30s",
		"--azure-call-rate=100",
	},
}

const size = "Standard_NC24ads_A100_v4"

func TestABudgetHoldsWhileTheOperatorIsKilled(t *testing.T) {
	seed, n, limit := number(t, "SEED", seedOfATest), int(number(t, "N", workspacesOfATest)), int(
		number(t, "BUDGET", budgetOfATest),
	) //nolint:gosec // small numbers
	replay := fmt.Sprintf("make chaos-budget N=%d BUDGET=%d SEED=%d", n, limit, seed)
	require.Less(t, limit, n, "%s: a budget that is never reached shows nothing", replay)
	w := newWorld(t, seed, n, limit)
	began := time.Now()
	w.createAll()
	w.untilFull()
	w.untilAllWereServed()
	t.Logf("%d Workspaces over %d nodes in %s: the operator was killed %d times, and at most %d claims were alive: %s",
		n, limit, time.Since(began).Round(time.Second), w.kills, w.claims.peak(), replay)
	require.NoError(
		t,
		w.Client.Delete(
			t.Context(), &kaitov1alpha1.GPUBudget{ObjectMeta: metav1.ObjectMeta{Name: "team", Namespace: stacktest.Namespace}},
		),
	)
	stacktest.NothingLeft(t, w.Stack)
	assert.Positive(t, w.kills)
	assert.Zero(t, w.claims.alive())
	assert.Equal(t, limit, w.claims.peak(), "the most claims that were alive at any moment")
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseUint(text, 10, 16)
	require.NoError(t, err, "%s=%q must be a number", name, text)
	return value
}

// world is the operators, their Workspaces and the budget.
type world struct {
	*testing.T
	*stack.Stack
	n, limit int
	random   *rand.Rand
	claims   *counter
	kills    int
	// nextKill is when the operator is killed again.
	nextKill time.Time
	// served are the Workspaces that have been Ready.
	served map[string]bool
	// patience bounds each of the two waits.
	patience time.Duration
}

func newWorld(t *testing.T, seed uint64, n, limit int) *world {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // what it decides must come again with the seed
	kind := []string{"machine", "nodeclaim"}[random.IntN(2)]
	operators := []stack.Operator{stack.WorkspaceOperator, stack.GPUProvisioner}
	args := map[stack.Operator][]string{}
	for _, o := range operators {
		args[o] = append([]string{"--leader-elect=false"}, flags[o]...)
	}
	args[stack.WorkspaceOperator] = append(args[stack.WorkspaceOperator], "--node-api="+kind)
	w := &world{
		T:        t,
		n:        n,
		limit:    limit,
		random:   random,
		served:   map[string]bool{},
		patience: 3*eventually.Long + time.Duration(n)*10*time.Second,
	}
	w.Stack = stacktest.Start(
		t, stack.Options{Operators: operators, Args: args, Azure: func(o *fakeazure.Options) { o.Limits.Off = true }},
	)
	// Karpenter adds its types to client-go's global scheme alone.
	v1 := schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
	w.Client.Scheme().AddKnownTypes(v1, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{})
	metav1.AddToGroupVersion(w.Client.Scheme(), v1)
	w.claims = count(t, w.Client)
	t.Logf("claims are %ss", kind)
	return w
}

// createAll makes the budget and then all Workspaces at once.
func (w *world) createAll() {
	w.Helper()
	require.NoError(w, w.Client.Create(w.Context(), &kaitov1alpha1.GPUBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "team", Namespace: stacktest.Namespace},
		Spec:       kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To(int32(w.limit))}, //nolint:gosec // a small number
	}))
	created := make(chan error, w.n)
	for i := range w.n {
		go func() {
			created <- w.Client.Create(w.Context(), &kaitov1alpha1.Workspace{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("w%d", i), Namespace: stacktest.Namespace},
				Resource:   kaitov1alpha1.ResourceSpec{InstanceType: size},
				Inference:  &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"}},
			})
		}()
	}
	for range w.n {
		require.NoError(w, <-created)
	}
	w.nextKill = time.Now().Add(w.pause())
}

// pause is how long the operator lives until it is killed again.
func (w *world) pause() time.Duration {
	return time.Second + time.Duration(w.random.IntN(9000))*time.Millisecond
}

// trouble kills the operator when its time has come, and starts it again.
func (w *world) trouble() {
	w.Helper()
	require.NoError(w, w.Health())
	if time.Now().Before(w.nextKill) {
		return
	}
	require.NoError(w, w.KillOperator(stack.WorkspaceOperator))
	w.kills++
	require.NoError(w, w.Stack.Run(w.Context(), stack.WorkspaceOperator))
	w.nextKill = time.Now().Add(w.pause())
}

// look reads all Workspaces, and holds the claims to the budget.
func (w *world) look() []kaitov1alpha1.Workspace {
	w.Helper()
	require.LessOrEqual(w, w.claims.peak(), w.limit, "claims that were alive at one moment")
	list := &kaitov1alpha1.WorkspaceList{}
	require.NoError(w, w.Client.List(w.Context(), list, client.InNamespace(stacktest.Namespace)))
	return list.Items
}

// until repeats trouble until done says so.
func (w *world) until(what string, done func() (bool, string)) {
	w.Helper()
	deadline := time.Now().Add(w.patience)
	ticker := time.NewTicker(eventually.Look)
	defer ticker.Stop()
	for {
		w.trouble()
		ok, saw := done()
		if ok {
			return
		}
		require.True(w, time.Now().Before(deadline), "%s within %s; the last that was seen: %s", what, w.patience, saw)
		<-ticker.C
	}
}

// untilFull waits until the budget is full, and all other Workspaces say so with the numbers.
func (w *world) untilFull() {
	w.Helper()
	w.until("a full budget", func() (bool, string) {
		over := 0
		for _, ws := range w.look() {
			if c := conditions.Get(&ws, conditions.Stalled); c != nil && c.Status == metav1.ConditionTrue {
				require.Equal(w, kaitov1alpha1.ReasonBudgetExceeded, c.Reason, "%s: %s", ws.Name, c.Message)
				if strings.Contains(
					c.Message, fmt.Sprintf("spec.maxNodes is %d, %d are in use, and 1 more are wanted", w.limit, w.limit),
				) {
					over++
				}
			}
		}
		b := &kaitov1alpha1.GPUBudget{}
		require.NoError(w, w.Client.Get(w.Context(), client.ObjectKey{Name: "team", Namespace: stacktest.Namespace}, b))
		if b.Status.Used == nil {
			b.Status.Used = &kaitov1alpha1.BudgetUse{}
		}
		saw := fmt.Sprintf(
			"%d Workspaces are Stalled with the numbers, %d claims are alive, the budget says %+v and %d waiting", over,
			w.claims.alive(), *b.Status.Used, b.Status.WaitingWorkspaces,
		)
		return over == w.n-w.limit && w.claims.alive() == w.limit && int(b.Status.Used.Nodes) == w.limit &&
			int(b.Status.WaitingWorkspaces) == w.n-w.limit &&
			w.kills > 0, saw
	})
}

// untilAllWereServed deletes each Workspace when it is Ready, so that another one has room, until all have been.
func (w *world) untilAllWereServed() {
	w.Helper()
	w.until("every Workspace has been served", func() (bool, string) {
		for _, ws := range w.look() {
			if conditions.IsTrue(&ws, conditions.Ready) && ws.DeletionTimestamp == nil {
				w.served[ws.Name] = true
				require.NoError(w, w.Client.Delete(w.Context(), &ws))
			}
		}
		return len(
			w.served,
		) == w.n, fmt.Sprintf("%d of %d have been Ready, %d claims are alive", len(w.served), w.n, w.claims.alive())
	})
}
