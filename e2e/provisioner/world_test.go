// SPDX-License-Identifier: Apache-2.0

package provisioner_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/e2e/provisioner/invariant"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
)

const (
	a100 = installed.A100
	// journey limits the time of what passes through Azure and Karpenter, which drains for five seconds and polls every
	// five.
	journey = 2 * eventually.Long
)

// world is one fake Azure and one gpu-provisioner on a cluster of their own.
type world struct {
	t        *testing.T
	site     site
	client   client.WithWatch
	azure    *fakeazure.Server
	launcher *process.Launcher
	process  *process.Process
	args     []string
	config   string

	mu       sync.Mutex
	checker  invariant.Checker
	gone     []karpv1.NodeClaim
	broken   map[string]bool
	watching sync.WaitGroup
	stop     context.CancelFunc
}

// together is the time in which claims of one request must arrive. On a busy machine a second is not enough.
const together = "--gather=5s"

// newWorld starts a fake Azure and the operator. Resources that it leaves behind fail the test.
func newWorld(t *testing.T, change func(*fakeazure.Options), args ...string) *world {
	t.Helper()
	t.Parallel()
	own := <-sites
	t.Cleanup(func() { sites <- own })
	clientset, err := kubernetes.NewForConfig(own.cluster.Config())
	require.NoError(t, err)
	w := &world{
		t:      t,
		site:   own,
		client: own.client,
		args:   args,
		checker: invariant.Checker{
			Grace:    30 * time.Second,
			Look:     5 * time.Second,
			Released: map[string]bool{},
		},
		broken: map[string]bool{},
	}
	options := fakeazure.Options{
		Dir: filepath.Join(t.TempDir(), "azure"), Nodes: fakeazure.NewKWOK(clientset),
		Durations: fakeazure.Durations{
			CreatePool: 2 * time.Second, Scale: 2 * time.Second, DeletePool: time.Second, DeleteMachines: time.Second,
			VMBoot: 500 * time.Millisecond, NodeJoin: 500 * time.Millisecond,
		},
	}
	if change != nil {
		change(&options)
	}
	w.azure, err = fakeazure.New(options)
	require.NoError(t, err)
	require.NoError(t, w.azure.Start())
	t.Cleanup(func() { assert.NoError(t, w.azure.Stop()) })
	w.launcher, err = process.NewLauncher(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(w.launcher.Close)
	w.configure(clientset)
	w.watch()
	t.Cleanup(w.cleanUp)
	w.start()
	return w
}

// configure writes the operator's config file, and the federated token that a pod would mount.
func (w *world) configure(clientset kubernetes.Interface) {
	dir := w.t.TempDir()
	token, err := clientset.CoreV1().
		ServiceAccounts(namespace).
		CreateToken(w.t.Context(), account, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"api://AzureADTokenExchange"}},
		}, metav1.CreateOptions{})
	require.NoError(w.t, err)
	tokenFile := filepath.Join(dir, "token")
	require.NoError(w.t, os.WriteFile(tokenFile, []byte(token.Status.Token), 0o600))
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
		"tokenFile":                tokenFile,
	})
	require.NoError(w.t, err)
	w.config = filepath.Join(dir, "azure.yaml")
	require.NoError(w.t, os.WriteFile(w.config, raw, 0o600))
}

// start runs the operator and waits until it is ready.
func (w *world) start() {
	w.t.Helper()
	require.NoError(w.t, w.run())
}

// run is start for other goroutines than the test's.
func (w *world) run() error {
	kubeconfig, err := w.site.cluster.ServiceAccountKubeconfig(context.Background(), namespace, account)
	if err != nil {
		return err
	}
	return process.RetryPortTaken(context.Background(), func() error { return w.runWith(kubeconfig) })
}

func (w *world) runWith(kubeconfig string) error {
	addresses, err := process.FreeAddresses(1)
	if err != nil {
		return err
	}
	probes := addresses[0]
	args := append([]string{
		"--kubeconfig=" + kubeconfig,
		"--azure-config=" + w.config,
		"--namespace=" + namespace,
		"--leader-elect=false",
		"--health-probe-bind-address=" + probes,
		"--metrics-bind-address=0",
		"--gather=500ms",
		"--patience=10s",
		"--surplus-grace=3s",
		"--refresh-active=2s",
		"--refresh-idle=4s",
		"--operation-timeout=20s",
		"--node-join-timeout=30s",
		"--gpu-ready-timeout=5s",
	}, w.args...)
	w.process, err = w.launcher.Start(process.Spec{Name: "gpu-provisioner", Binary: binary, Args: args})
	if err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(
		context.Background(),
		eventually.StoryTick,
		eventually.Long,
		true,
		func(context.Context) (bool, error) {
			if err := w.process.Died(); err != nil {
				return false, err
			}
			response, err := http.Get("http://" + probes + "/readyz")
			if err != nil {
				return false, nil //nolint:nilerr // not listening yet
			}
			_ = response.Body.Close() // the body is not used
			return response.StatusCode == http.StatusOK, nil
		},
	)
}

// crash kills the operator with SIGKILL.
func (w *world) crash() {
	w.t.Helper()
	require.NoError(w.t, w.process.Kill())
}

// cleanUp stops the operator when it has deleted what the test left.
func (w *world) cleanUp() {
	ctx := context.Background()
	var list karpenterv1alpha5.MachineList
	assert.NoError(w.t, w.client.List(ctx, &list))
	for i := range list.Items {
		w.mu.Lock()
		w.checker.Released[list.Items[i].Name] = true
		w.mu.Unlock()
		assert.NoError(w.t, client.IgnoreNotFound(w.client.Delete(ctx, &list.Items[i])))
	}
	if w.process != nil && w.process.Died() == nil {
		assert.Eventually(w.t, func() bool {
			p, ok := w.picture()
			return ok && len(p.Claims) == 0 && len(invariant.Empty(p)) == 0
		}, journey, eventually.StoryTick, "I3: everything is given back")
	}
	w.stopWatching()
	if w.t.Failed() && w.process != nil {
		w.t.Logf("gpu-provisioner:\n%s", w.process.Tail())
	}
	if w.process != nil {
		assert.NoError(w.t, w.process.Stop())
	}
	w.sweep(ctx)
	for line := range w.broken {
		w.t.Error(line)
	}
}

// sweep deletes what a failed test left, so that it does not fail the next one.
func (w *world) sweep(ctx context.Context) {
	strip := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
	var machines karpenterv1alpha5.MachineList
	var claims karpv1.NodeClaimList
	var nodes corev1.NodeList
	for _, list := range []client.ObjectList{&machines, &claims, &nodes} {
		assert.NoError(w.t, w.client.List(ctx, list))
	}
	var left []client.Object
	for i := range machines.Items {
		left = append(left, &machines.Items[i])
	}
	for i := range claims.Items {
		left = append(left, &claims.Items[i])
	}
	for i := range nodes.Items {
		left = append(left, &nodes.Items[i])
	}
	for _, o := range left {
		assert.NoError(w.t, client.IgnoreNotFound(w.client.Delete(ctx, o)))
		assert.NoError(w.t, client.IgnoreNotFound(w.client.Patch(ctx, o, strip)))
	}
	var maps corev1.ConfigMapList
	assert.NoError(
		w.t,
		w.client.List(
			ctx, &maps, client.InNamespace(namespace), client.MatchingLabels{"app.kubernetes.io/managed-by": "gpu-provisioner"},
		),
	)
	for i := range maps.Items {
		assert.NoError(w.t, client.IgnoreNotFound(w.client.Delete(ctx, &maps.Items[i])))
	}
}
