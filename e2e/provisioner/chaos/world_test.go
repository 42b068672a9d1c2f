// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/e2e/provisioner/invariant"
	"kaito.sh/shared/test/process"
)

// tick is the duration of a round.
const tick = 10 * time.Second

// Durations are shortened on both sides: Azure takes half a minute instead of minutes, and the operator's flags match.
var (
	durations = fakeazure.Durations{
		CreatePool: 30 * time.Second, Scale: 30 * time.Second, DeletePool: 20 * time.Second, DeleteMachines: 20 * time.Second,
		VMBoot: 10 * time.Second, NodeJoin: 10 * time.Second,
	}
	arguments = []string{
		"--gather=1s",
		"--patience=60s",
		"--surplus-grace=20s",
		"--operation-timeout=5m",
		"--node-join-timeout=5m",
		"--gpu-ready-timeout=5m",
		"--refresh-active=10s",
		"--refresh-idle=20s",
	}
)

// order is the usual order: changes of a Machine reach Azure, and Azure's answers reach the Machine.
var order = []string{
	"classes",
	"machines",
	"labels",
	"claims",
	"pools",
	"claims",
	"machines",
	"nodes",
	"rejoins",
	"accelerators",
	"health",
	"garbage",
}

type tester interface {
	require.TestingT
	Helper()
	Logf(format string, args ...any)
}

// world is a fake Azure, and an operator that is killed and started, on the shared cluster.
type world struct {
	t        tester
	dir      string
	clock    *clocktesting.FakeClock
	azure    *fakeazure.Server
	api      *api
	launcher *process.Launcher
	process  *process.Process
	line     *line
	args     []string
	starts   int
	errors   []string // errors of the last round

	checker  invariant.Checker
	fair     time.Time // time without faults, for promises with a deadline
	unfair   bool
	foreign  map[string]int  // machines of other owners, by pool
	machines map[string]bool // the operator's machines, at the last check
	booted   int             // the operator's machines so far
	rolling  map[string]bool // pools whose upgrade deletes Nodes
	garbled  bool            // lists of machines may be incomplete

	mu    sync.Mutex
	calls []string
	dieAt int // number of the call, from 1; 0: never
	die   verdict
}

func newWorld(t tester, change func(*fakeazure.Options), args ...string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos-")
	require.NoError(t, err)
	w := &world{
		t: t, dir: dir, clock: clocktesting.NewFakeClock(epoch), args: append(slices.Clone(arguments), args...), fair: epoch,
		checker: invariant.Checker{Grace: 3 * time.Minute, Look: 0, Released: map[string]bool{}, Taken: map[string]bool{}},
		foreign: map[string]int{}, machines: map[string]bool{}, rolling: map[string]bool{},
	}
	options := fakeazure.Options{
		Dir: filepath.Join(dir, "azure"), Clock: w.clock, Durations: durations,
		Nodes: &kubelets{NodeSide: fakeazure.NewKWOK(shared.nodes), nodes: shared.nodes, clock: w.clock},
		OnRequest: func(r fakeazure.Request) fakeazure.Verdict {
			return map[verdict]fakeazure.Verdict{serve: fakeazure.Serve, dieBefore: fakeazure.DropBefore, dieAfter: fakeazure.DropAfter}[w.fate("ARM "+r.Verb+" "+r.Pool)]
		},
	}
	if change != nil {
		change(&options)
	}
	w.azure, err = fakeazure.New(options)
	require.NoError(t, err)
	require.NoError(t, w.azure.Start())
	w.launcher, err = process.NewLauncher(dir)
	require.NoError(t, err)
	w.api, err = newAPI(w.clock, w.fate)
	require.NoError(t, err)
	w.configure()
	w.addForeign("nodepool1", 2)
	return w
}

// close ends everything and empties the cluster for the next world.
func (w *world) close() {
	if w.process != nil {
		_ = w.process.Kill() // it may have been killed already
	}
	w.launcher.Close()
	_ = w.api.server.Close()
	_ = w.azure.Stop()
	_ = os.RemoveAll(w.dir)
	sweep(w.t)
}

// configure writes the operator's config file, and the federated token that a pod would mount.
func (w *world) configure() {
	token, err := shared.nodes.CoreV1().
		ServiceAccounts(installed.Namespace).
		CreateToken(context.Background(), installed.Account, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"api://AzureADTokenExchange"}},
		}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, "token"), []byte(token.Status.Token), 0o600))
	o := w.azure.Options()
	raw, err := yaml.Marshal(map[string]any{
		"cloud":                    "Custom",
		"resourceManagerEndpoint":  w.azure.ARMEndpoint(),
		"authorityHost":            w.azure.AuthorityHost(),
		"caFile":                   w.azure.CAFile(),
		"disableInstanceDiscovery": true,
		"subscriptionID":           o.SubscriptionID,
		"resourceGroup":            o.ResourceGroup,
		"clusterName":              o.ClusterName,
		"tenantID":                 o.TenantID,
		"clientID":                 o.ClientID,
		"tokenFile":                filepath.Join(w.dir, "token"),
	})
	require.NoError(w.t, err)
	require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, "azure.yaml"), raw, 0o600))
}

// fate counts a call and decides about it.
func (w *world) fate(what string) verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, what)
	if w.dieAt == 0 || len(w.calls) != w.dieAt {
		return serve
	}
	w.dieAt = 0
	if err := w.process.Kill(); err != nil {
		panic(err) // the kernel could not kill the process
	}
	return w.die
}

// crash kills the process between two rounds.
func (w *world) crash() {
	if w.process != nil {
		require.NoError(w.t, w.process.Kill())
		w.process = nil
	}
}

// dieAtCall kills the process at its nth call from now.
func (w *world) dieAtCall(n int, how verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.dieAt, w.die = nil, n, how
}

// made returns the calls since dieAtCall.
func (w *world) made() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// patience limits the rounds in which a condition must become true. It is longer than every backoff and timeout of the
// operator.
const patience = 200
