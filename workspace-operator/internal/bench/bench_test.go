// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/scheme"
	"kaito.sh/workspace-operator/internal/workspace"
)

var (
	number = flag.Int("n", 20, "Workspaces that are created at once")
	rounds = flag.Int(
		"rounds", 0,
		"rounds of floor and operator; 0 is 5 with -strict (3 above 200 Workspaces), or 1 without it. The ratio of the median round counts, since other work on the machine comes and goes",
	)
	qps   = flag.Int("qps", 500, "requests a second that each subject may make")
	burst = flag.Int("burst", 1000, "requests that each subject may make at once")
	bare  = flag.Bool(
		"bare", false, "let the floor write the verdict alone into the status, instead of what the contract asks for",
	)
	hold = flag.Duration(
		"hold", workspace.DefaultOptions().StatusHold,
		"the operator's --status-hold; 0 shows what keeping a status back saves",
	)
	strict = flag.Bool(
		"strict", false,
		"fail when a ratio is above its bar; without it only the counted bars fail, since a busy machine changes times",
	)
)

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		if err := runSubject(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// measured is what one subject cost.
type measured struct {
	requests  float64 // a Workspace, without events
	events    float64 // a Workspace
	conflicts int
	p50, p90  time.Duration // from creation to Ready
	cpu       time.Duration // a Workspace
	server    time.Duration // of the API server's CPU, a Workspace
	memory    float64       // MiB at most
	status    int           // bytes of JSON of a Workspace's last status
	deletion  deletion      // of the operator only
}

func TestTheOperatorIsNearTheFloor(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{OwnSettings: true, CRDPaths: []string{
		"../../../shared/api/crds/kaito.sh_workspaces.yaml",
		"../../../shared/api/crds/kaito.sh_gpubudgets.yaml",
		"../../../shared/api/crds/karpenter.sh_machines.yaml",
		"../../../shared/api/crds/tuning.kaito.sh_tuningjobs.yaml",
	}})
	scheme, err := scheme.New()
	require.NoError(t, err)
	admin, err := client.New(c.Config(), client.Options{Scheme: scheme})
	require.NoError(t, err)
	raw, err := kubernetes.NewForConfig(c.Config())
	require.NoError(t, err)
	b := &bench{
		client:     admin,
		rest:       raw.RESTClient(),
		world:      play(t, admin, c.Config()),
		kubeconfig: c.Kubeconfig(),
		audit:      audit.Open(c.AuditLog()),
	}

	if *rounds < 1 {
		*rounds = defaultRounds()
	}
	var floors, operators []measured
	for round := range *rounds {
		after := b.leaveAlone
		if round > 0 {
			after = nil
		}
		floors = append(floors, b.measure(t, roleFloor, round, nil))
		operators = append(operators, b.measure(t, roleOperator, round, after))
	}
	r := compare(floors, operators)
	t.Log("\n" + r.String())
	assert.LessOrEqual(t, r.operator.requests, 9.0, "requests a Workspace")
	assert.LessOrEqual(t, r.operator.events, 3.0, "events a Workspace: what it waits for, that the engine starts, and that it answers")
	assert.Zero(t, r.operator.conflicts)
	if !*bare {
		assert.InEpsilon(
			t, r.operator.status, r.floor.status, 0.15, "the floor must write as much as the operator",
		)
	}
	if *strict {
		assert.LessOrEqual(t, r.p50, 1.3, "time to Ready")
		assert.LessOrEqual(t, r.cpu, 1.4+min(float64(max(*number-100, 0))/9000, 0.1), "CPU: 1.4 at 100, 1.5 at 1,000")
		assert.LessOrEqual(t, r.operator.memory, 60+float64(*number-100)*0.1, "MiB: 60 at 100 Workspaces, 150 at 1,000")
	}
}

// defaultRounds is enough for a median that the machine's other work does not move: a short run needs more rounds.
func defaultRounds() int {
	switch {
	case !*strict:
		return 1
	case *number > 200:
		return 3
	default:
		return 5
	}
}

type bench struct {
	client     client.Client
	rest       rest.Interface
	world      *world
	kubeconfig string
	audit      *audit.Log
}

func by(role string) audit.Filter {
	return func(r audit.Request) bool { return strings.HasPrefix(r.UserAgent, role) && r.Resource != "" }
}

func (b *bench) spent(t assert.TestingT, since audit.Mark, role string) []audit.Request {
	got, err := b.audit.Requests(
		since, by(role), audit.Not(audit.Verb("watch", "list")), audit.Not(audit.Resource("leases")),
	)
	assert.NoError(t, err)
	return got
}

// split takes the requests for events out.
func split(all []audit.Request) (requests, events []audit.Request) {
	for _, r := range all {
		if audit.Resource("events")(r) {
			events = append(events, r)
		} else {
			requests = append(requests, r)
		}
	}
	return requests, events
}

// measure runs a subject over Workspaces of its own, and then what is to be seen afterwards.
func (b *bench) measure(
	t *testing.T, role string, round int, after func(*testing.T, string, string, *subject) *subject,
) measured {
	t.Helper()
	namespace := fmt.Sprintf("%s-%d", role, round)
	require.NoError(t, b.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	// There is no controller that makes it, and without it no pod is admitted, not even by a dry run.
	require.NoError(
		t,
		b.client.Create(
			t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace}},
		),
	)
	s := startSubject(t, role, b.kubeconfig, *qps, *burst)
	defer func() {
		s.stop(t)
		b.clear(t, namespace)
	}()
	// The first one finds watches that still start, at both ends.
	warm := b.world.count()
	require.NoError(t, b.client.Create(t.Context(), plain(namespace, "warm")))
	require.Eventually(t, func() bool { return b.world.count() > warm }, eventually.Long, eventually.Tick)
	b.settle(t, role, s)

	mark, err := b.audit.Mark()
	require.NoError(t, err)
	had, before, serverBefore := b.world.count(), s.cpu(t), b.serverCPU(t)
	created := map[client.ObjectKey]time.Time{}
	uids := map[string]types.UID{}
	began := time.Now()
	for i := range *number {
		w := plain(namespace, fmt.Sprintf("w%d", i))
		require.NoError(t, b.client.Create(t.Context(), w))
		created[client.ObjectKeyFromObject(w)], uids[w.Name] = time.Now(), w.UID
	}
	creating := time.Since(began)
	// A thousand Workspaces on two cores take minutes.
	if !assert.Eventually(
		t, func() bool { return b.world.count() == had+*number }, eventually.Long+time.Duration(*number)*100*time.Millisecond,
		eventually.Tick,
	) {
		b.explain(t, namespace)
		t.FailNow()
	}
	b.settle(t, role, s)

	t.Logf(
		"%s: %s to create all; requests after their Workspace was there:\n%s", role, creating.Round(time.Millisecond),
		b.stages(mark, uids),
	)
	out := measured{
		cpu:    (s.cpu(t) - before) / time.Duration(*number),
		server: (b.serverCPU(t) - serverBefore) / time.Duration(*number),
		memory: s.memory(t),
	}
	out.status = b.statusBytes(t, namespace)
	requests, events := split(b.spent(t, mark, role))
	out.requests, out.events = float64(len(requests))/float64(*number), float64(len(events))/float64(*number)
	for _, r := range requests {
		if r.Code >= 400 {
			out.conflicts++
		}
	}
	if out.conflicts > 0 || out.requests > 9 {
		t.Logf("%s spent:\n%s", role, audit.Table(requests))
		shown := 0
		for _, r := range requests {
			if r.Code >= 400 && shown < 8 {
				shown++
				t.Logf(
					"refused: %s %s/%s %s/%s %d %s", r.Verb, r.Resource, r.Subresource, r.Namespace, r.Name, r.Code,
					r.Time.Format("05.000"),
				)
			}
		}
	}
	var took []time.Duration
	b.world.mu.Lock()
	for key, at := range created {
		took = append(took, b.world.ready[key].Sub(at))
	}
	b.world.mu.Unlock()
	slices.Sort(took)
	out.p50, out.p90 = took[len(took)/2], took[len(took)*9/10]
	if after != nil {
		s = after(t, role, namespace, s)
	}
	if role == roleOperator {
		out.deletion = b.deleteAll(t, role, namespace, s)
	}
	return out
}

// serverCPU is the processor time that the API server has used.
func (b *bench) serverCPU(t *testing.T) time.Duration {
	t.Helper()
	text, err := b.rest.Get().AbsPath("/metrics").DoRaw(t.Context())
	require.NoError(t, err)
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "process_cpu_seconds_total "); ok {
			seconds, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			return time.Duration(seconds * float64(time.Second))
		}
	}
	require.Fail(t, "the API server does not tell its CPU")
	return 0
}

// statusBytes is how large the status is that the subject has written.
func (b *bench) statusBytes(t *testing.T, namespace string) int {
	t.Helper()
	w := &kaitov1alpha1.Workspace{}
	require.NoError(t, b.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "w0"}, w))
	raw, err := json.Marshal(w.Status)
	require.NoError(t, err)
	return len(raw)
}

func plain(namespace, name string) *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Resource:   kaitov1alpha1.ResourceSpec{InstanceType: "Standard_NC24ads_A100_v4"},
		Inference:  &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"}},
	}
}

// explain shows what has not become Ready, and what there is of it.
func (b *bench) explain(t *testing.T, namespace string) {
	t.Helper()
	list := &kaitov1alpha1.WorkspaceList{}
	require.NoError(t, b.client.List(t.Context(), list, client.InNamespace(namespace)))
	for i := range list.Items {
		w := &list.Items[i]
		if conditions.IsTrue(w, conditions.Ready) {
			continue
		}
		machine, deployment := &karpenterv1alpha5.Machine{}, &appsv1.Deployment{}
		machineErr := b.client.Get(t.Context(), client.ObjectKey{Name: placement.Name(w.UID, 0, 0)}, machine)
		deploymentErr := b.client.Get(t.Context(), client.ObjectKeyFromObject(w), deployment)
		t.Logf(
			"%s: %+v; Machine %v %+v; Deployment %v %+v", w.Name, w.Status.Conditions, machineErr, machine.Status, deploymentErr,
			deployment.Status,
		)
	}
}

// settle waits until the subject has asked for nothing, and used next to no CPU, for half a second.
func (b *bench) settle(t *testing.T, role string, s *subject) {
	t.Helper()
	last, since := s.cpu(t), time.Now()
	mark, err := b.audit.Mark()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		now := s.cpu(t)
		if now-last > 20*time.Millisecond || len(b.spent(t, mark, role)) > 0 {
			last, since = now, time.Now()
			mark, err = b.audit.Mark()
			return false
		}
		return err == nil && time.Since(since) > 500*time.Millisecond
	}, eventually.Long, 100*time.Millisecond)
}

// leaveAlone touches every Workspace, and then restarts the operator: neither may cost a request.
func (b *bench) leaveAlone(t *testing.T, role, namespace string, s *subject) *subject {
	t.Helper()
	mark, err := b.audit.Mark()
	require.NoError(t, err)
	list := &kaitov1alpha1.WorkspaceList{}
	require.NoError(t, b.client.List(t.Context(), list, client.InNamespace(namespace)))
	for i := range list.Items {
		before := list.Items[i].DeepCopy()
		list.Items[i].Annotations = map[string]string{"touched": "yes"}
		require.NoError(t, b.client.Patch(t.Context(), &list.Items[i], client.MergeFrom(before)))
	}
	b.settle(t, role, s)
	assert.Empty(t, b.spent(t, mark, role), "touching all Workspaces")

	s.stop(t)
	if mark, err = b.audit.Mark(); err != nil {
		require.NoError(t, err)
	}
	s = startSubject(t, role, b.kubeconfig, *qps, *burst)
	started := time.Now()
	require.Eventually(t, func() bool {
		watches, err := b.audit.Requests(mark, by(role), audit.Verb("watch"), audit.Resource("workspaces"))
		return err == nil && len(watches) > 0
	}, eventually.Long, eventually.Tick)
	b.settle(t, role, s)
	assert.Empty(t, b.spent(t, mark, role), "restarting the operator")
	t.Logf("restart: %s of CPU within %s, %.0f MiB", s.cpu(t), time.Since(started).Round(time.Second), s.memory(t))
	return s
}

// clear removes by force what a subject has made, so that the next one finds nothing to do.
func (b *bench) clear(t *testing.T, namespace string) {
	t.Helper()
	ctx := context.Background()
	list := &kaitov1alpha1.WorkspaceList{}
	require.NoError(t, b.client.List(ctx, list, client.InNamespace(namespace)))
	for i := range list.Items {
		w := &list.Items[i]
		before := w.DeepCopy()
		w.Finalizers = nil
		require.NoError(t, client.IgnoreNotFound(b.client.Patch(ctx, w, client.MergeFrom(before))))
		require.NoError(t, client.IgnoreNotFound(b.client.Delete(ctx, w)))
	}
	for _, all := range []client.Object{&karpenterv1alpha5.Machine{}, &corev1.Node{}} {
		require.NoError(t, b.client.DeleteAllOf(ctx, all))
	}
	// Nothing collects what has lost its owner here, and it would be in the caches of the next round.
	for _, all := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &networkingv1.NetworkPolicy{}} {
		require.NoError(t, b.client.DeleteAllOf(ctx, all, client.InNamespace(namespace)))
	}
}
