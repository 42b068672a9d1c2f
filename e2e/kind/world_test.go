// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/kindcluster"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

var (
	wanted    = flag.Bool("kind", false, "make a kind cluster and run the suite on it")
	nodeImage = flag.String("image", "", "node image; empty means kind's default")
	archives  = flag.String("images", "../../dist/images", "folder that `make images TAG=dev` has written")
	logs      = flag.String("logs", "../../dist/kind-logs", "folder for the logs of nodes and pods when a test fails")
)

// Waits are generous: kubelets and images take their time on a busy machine.
const (
	installed = 5 * eventually.Long
	served    = 5 * eventually.Long
	replaced  = 8 * eventually.Long
	look      = time.Second
)

// engineNames returns the names under which nodes look for the catalogue's engines, which are simulated here. Where an
// image has a digest, containerd looks by the digest and drops the tag.
func engineNames(t *testing.T) []string {
	t.Helper()
	c, err := catalog.Load()
	require.NoError(t, err)
	var names []string
	for _, engine := range c.Engines() {
		tagged, digest, pinned := strings.Cut(engine.Image, "@")
		if name := tagged[:strings.LastIndex(tagged, ":")]; pinned {
			names = append(names, name+"@"+digest)
		} else {
			names = append(names, tagged)
		}
	}
	return names
}

var operators = []string{"workspace-operator", "tuning-operator", "gpu-provisioner"}

type world struct {
	kind       *kindcluster.Cluster
	azure      *fakeazure.Server
	client     client.Client
	kubernetes kubernetes.Interface
	// registry is host:port of the sources' registry from outside of the cluster; trusted the authority of the sources
	// (PEM).
	registry string
	trusted  []byte
}

// start brings up the cluster, the cloud and the operators.
func start(t *testing.T) *world {
	t.Helper()
	w := &world{}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	var err error
	w.kind, err = kindcluster.Start(
		ctx, kindcluster.Options{Name: "kaito-e2e", Image: *nodeImage, Workers: 1, Spares: 2, Log: testLog{t}},
	)
	require.NoError(t, err)
	w.endOnInterrupt(t, ctx)
	t.Cleanup(func() {
		if t.Failed() {
			assert.NoError(t, os.MkdirAll(*logs, 0o755))
			assert.NoError(t, w.kind.CollectLogs(*logs))
			t.Log("logs of nodes and pods are in", *logs)
		}
	})
	w.connect(t)
	w.loadImages(t)
	w.startSources(t)
	w.startAzure(t)
	w.install(t)
	return w
}

// endOnInterrupt deletes the cluster with the test, or immediately on an interrupt: go would end the test, and
// leave the cluster.
func (w *world) endOnInterrupt(t *testing.T, ctx context.Context) {
	t.Helper()
	t.Cleanup(func() { assert.NoError(t, w.kind.Stop()) })
	go func() {
		<-ctx.Done()
		if t.Context().Err() != nil { // the test is over, and its cleanup does the rest
			return
		}
		_, _ = fmt.Fprintln(os.Stderr, "interrupted: deleting the kind cluster")
		if err := w.kind.Stop(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(130)
	}()
}

func (w *world) connect(t *testing.T) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", w.kind.Kubeconfig())
	require.NoError(t, err)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, kaitov1alpha1.AddToScheme, karpenterv1alpha5.AddToScheme, tuningv1alpha1.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	w.client, err = client.New(config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	w.kubernetes, err = kubernetes.NewForConfig(config)
	require.NoError(t, err)
}

func (w *world) loadImages(t *testing.T) {
	t.Helper()
	for name, more := range map[string][]string{
		"workspace-operator": nil, "gateway": nil, "gpu-provisioner": nil, "tuning-operator": nil, "runner": nil, "sources": nil, "ask": nil,
		"simengine": engineNames(t), "simtrainer": {"docker.io/library/trainer:dev"},
	} {
		require.NoError(t, w.kind.Load(filepath.Join(*archives, name+".tar"), more...))
	}
}

// startAzure listens where pods reach it.
func (w *world) startAzure(t *testing.T) {
	t.Helper()
	host, err := w.kind.HostIP()
	require.NoError(t, err)
	machines, err := w.kind.Machines(w.kubernetes)
	require.NoError(t, err)
	address := net.JoinHostPort(host, "0")
	w.azure, err = fakeazure.New(fakeazure.Options{
		Dir: t.TempDir(), Nodes: machines, ARMAddress: address, EntraAddress: address,
		Durations: fakeazure.Durations{
			CreatePool:     2 * time.Second,
			Scale:          2 * time.Second,
			DeletePool:     time.Second,
			DeleteMachines: time.Second,
			VMBoot:         time.Second,
			NodeJoin:       time.Second,
		},
	})
	require.NoError(t, err)
	require.NoError(t, w.azure.Start())
	t.Cleanup(func() { assert.NoError(t, w.azure.Stop()) })
}

// install does what a user does: kubectl apply -k, and the cloud's configuration as a ConfigMap. Where Workspaces are,
// engines decide their own user, which the strictest standard does not allow.
func (w *world) install(t *testing.T) {
	t.Helper()
	w.kubectl(t, "label", "namespace", metav1.NamespaceDefault, "pod-security.kubernetes.io/enforce=baseline")
	for _, operator := range operators {
		w.kubectl(t, "apply", "--server-side", "-k", "config/"+operator)
	}
	authority, err := os.ReadFile(w.azure.CAFile())
	require.NoError(t, err)
	o := w.azure.Options()
	config, err := yaml.Marshal(map[string]any{
		"cloud":                    "Custom",
		"resourceManagerEndpoint":  w.azure.ARMEndpoint(),
		"resourceManagerAudience":  w.azure.ARMEndpoint(),
		"authorityHost":            w.azure.AuthorityHost(),
		"caFile":                   "/etc/gpu-provisioner/ca.crt",
		"disableInstanceDiscovery": true,
		"subscriptionID":           o.SubscriptionID,
		"resourceGroup":            o.ResourceGroup,
		"clusterName":              o.ClusterName,
		"auth":                     "workloadIdentity",
		"tenantID":                 o.TenantID,
		"clientID":                 o.ClientID,
		"tokenFile":                "/var/run/secrets/azure/tokens/azure-identity-token",
	})
	require.NoError(t, err)
	require.NoError(t, w.client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "azure", Namespace: "gpu-provisioner-system"},
		Data:       map[string]string{"azure.yaml": string(config), "ca.crt": string(authority)},
	}))
	for _, operator := range operators {
		w.available(t, operator+"-system", operator+"-controller-manager")
	}
}

func (w *world) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	binary, err := cluster.Binary("kubectl")
	require.NoError(t, err)
	var out bytes.Buffer
	command := exec.CommandContext(t.Context(), binary, append([]string{"--kubeconfig", w.kind.Kubeconfig()}, args...)...)
	command.Stdout, command.Stderr = &out, &out
	require.NoError(t, command.Run(), out.String())
	return out.String()
}

// ready waits until the Workspace is.
func (w *world) ready(t *testing.T, name string, within time.Duration) *kaitov1alpha1.Workspace {
	t.Helper()
	workspace := &kaitov1alpha1.Workspace{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(
			c, w.client.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: name}, workspace),
		)
		ready := conditions.Get(workspace, kaitov1alpha1.ConditionReady)
		if assert.NotNil(c, ready) {
			assert.Equal(c, metav1.ConditionTrue, ready.Status, "%s: %s", ready.Reason, ready.Message)
		}
	}, within, look)
	return workspace
}

// gone waits until neither the cluster nor the cloud has anything of a Workspace.
func (w *world) gone(t *testing.T) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		machines, pods, nodes := &karpenterv1alpha5.MachineList{}, &corev1.PodList{}, &corev1.NodeList{}
		require.NoError(c, w.client.List(context.Background(), machines))
		require.NoError(c, w.client.List(context.Background(), pods, client.InNamespace(metav1.NamespaceDefault)))
		require.NoError(c, w.client.List(context.Background(), nodes))
		claims := &corev1.PersistentVolumeClaimList{}
		require.NoError(c, w.client.List(context.Background(), claims, client.InNamespace(metav1.NamespaceDefault)))
		assert.Empty(c, machines.Items)
		assert.Empty(c, pods.Items)
		assert.Empty(c, claims.Items)
		assert.Len(c, nodes.Items, 2, "the control plane and the worker")
		assert.Empty(c, w.azure.State().Pools)
	}, served, look)
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
