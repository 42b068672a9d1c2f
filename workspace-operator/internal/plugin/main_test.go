// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/printed"
	"kaito.sh/workspace-operator/internal/plugin"
	"kaito.sh/workspace-operator/internal/scheme"
	"kaito.sh/workspace-operator/internal/watch"
	"kaito.sh/workspace-operator/internal/workspace"
)

// The commands run in this process against a real API server, where the real operator looks after Workspaces, and KWOK
// plays nodes and pods. A port-forward to a simulated pod ends at engine; the tests play the provisioner and the
// tuning-operator.
var shared struct {
	client     client.Client
	cluster    *cluster.Cluster
	kubeconfig string
	engine     *engine
}

// logLine is what simulated containers are said to have printed.
const logLine = "the engine says hello"

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	// plan and explain must not find the cluster of the user.
	if err := os.Setenv("KUBECONFIG", filepath.Join(os.TempDir(), "there-is-none")); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "plugin-test-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // best effort, below the system's temporary folder
	logs := filepath.Join(dir, "container.log")
	if err := os.WriteFile(
		logs, []byte(time.Now().UTC().Format(time.RFC3339Nano)+" stdout F "+logLine+"\n"), 0o600,
	); err != nil {
		panic(err)
	}
	shared.engine = &engine{}
	server := httptest.NewServer(shared.engine)
	defer server.Close()
	return cluster.Main(m, cluster.Options{
		ControllerManager: true, Scheduler: true, KWOK: true,
		KWOKConfig: cluster.KWOKConfig{
			Forwards: []cluster.Forward{{Port: kaitov1alpha1.PortGateway, Target: server.Listener.Addr().String()}},
			Logs:     []cluster.Logs{{File: logs}},
		},
		CRDPaths: []string{"../../../shared/api/crds"},
		CRDs:     []*apiextensionsv1.CustomResourceDefinition{nodeClaimCRD()},
	}, func(c *cluster.Cluster) {
		if err := operate(c); err != nil {
			panic(err)
		}
	})
}

// nodeClaimCRD is Karpenter's own.
func nodeClaimCRD() *apiextensionsv1.CustomResourceDefinition {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(karpapis.NodeClaimCRD, crd); err != nil {
		panic(err)
	}
	return crd
}

// operate runs the operator in this process until the cluster stops.
func operate(c *cluster.Cluster) error {
	shared.cluster, shared.kubeconfig = c, c.Kubeconfig()
	scheme, err := scheme.New()
	if err != nil {
		return err
	}
	if shared.client, err = client.New(c.Config(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	known, err := catalog.Load()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(
		c.Config(),
		ctrl.Options{
			Scheme: scheme, Cache: watch.CacheOptions(), Metrics: metricsserver.Options{BindAddress: "0"},
		},
	)
	if err != nil {
		return err
	}
	options := workspace.DefaultOptions()
	options.Images.Gateway, options.Images.Runner = "example.com/gateway:1", "example.com/runner:1"
	ctx, cancel := context.WithCancel(context.Background())
	operator := workspace.Operator{
		Options: options, Catalog: known, Registry: prometheus.NewRegistry(), Clock: clock.RealClock{},
	}
	if err := operator.SetupWithManager(ctx, mgr); err != nil {
		cancel()
		return err
	}
	go func() {
		<-c.Stopped()
		cancel()
	}()
	go func() { _ = mgr.Start(ctx) }() // what it fails at shows in every test
	return nil
}

// result of a command line.
type result struct {
	code        int
	out, errOut string
}

// offline runs a command that must not need a cluster.
func offline(t *testing.T, in io.Reader, args ...string) result {
	t.Helper()
	return start(t, in, args...).wait()
}

// online runs a command against the cluster.
func online(t *testing.T, namespace string, args ...string) result {
	t.Helper()
	return start(t, nil, in(namespace, args...)...).wait()
}

func in(namespace string, args ...string) []string {
	return append(args, "--kubeconfig", shared.kubeconfig, "-n", namespace)
}

// running is a command that has not ended.
type running struct {
	t           *testing.T
	out, errOut printed.Buffer
	signals     chan os.Signal
	done        chan int
}

func start(t *testing.T, in io.Reader, args ...string) *running {
	t.Helper()
	if in == nil {
		in = strings.NewReader("")
	}
	r := &running{t: t, signals: make(chan os.Signal, 1), done: make(chan int, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		r.done <- plugin.Run(ctx, genericiooptions.IOStreams{In: in, Out: &r.out, ErrOut: &r.errOut}, clock.RealClock{}, r.signals, args)
	}()
	return r
}

func (r *running) wait() result {
	r.t.Helper()
	select {
	case code := <-r.done:
		return result{code, r.out.String(), r.errOut.String()}
	case <-time.After(eventually.Long):
		require.FailNow(r.t, "the command does not end", "%s%s", r.out.String(), r.errOut.String())
		return result{}
	}
}

// until waits for a text in what is printed.
func (r *running) until(text string) {
	r.t.Helper()
	require.Eventually(
		r.t, func() bool { return strings.Contains(r.out.String()+r.errOut.String(), text) }, eventually.Long,
		eventually.Tick, "%q is not printed", text,
	)
}

// newNamespace also waits for its default service account, without which no pod is admitted.
func newNamespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	require.NoError(t, shared.client.Create(t.Context(), ns))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.NoError(
			c, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{}),
		)
	}, eventually.Long, eventually.Tick)
	return ns.Name
}

func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		require.NoError(t, shared.client.Create(t.Context(), o), "%T %s", o, o.GetName())
	}
}
