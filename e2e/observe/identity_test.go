// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/stack"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
)

// own is a gpu-provisioner that a test starts, with an identity that the test may break.
type own struct {
	t         *testing.T
	tokenFile string
	probes    string
	process   *process.Process
}

// startOwn stops the stack's operator, and starts it again at the end.
func startOwn(t *testing.T, token string) *own {
	t.Helper()
	require.NoError(t, shared.StopOperator(stack.GPUProvisioner))
	t.Cleanup(func() { require.NoError(t, shared.Run(context.WithoutCancel(t.Context()), stack.GPUProvisioner)) })
	dir := t.TempDir()
	addresses, err := process.FreeAddresses(1)
	require.NoError(t, err)
	o := &own{t: t, tokenFile: filepath.Join(dir, "token"), probes: addresses[0]}
	o.federated(token)
	raw, err := os.ReadFile(filepath.Join(shared.Dir(), "azure.yaml"))
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, yaml.Unmarshal(raw, &config))
	config["tokenFile"] = o.tokenFile
	raw, err = yaml.Marshal(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "azure.yaml"), raw, 0o600))
	kubeconfig, err := shared.Cluster.ServiceAccountKubeconfig(
		t.Context(), stack.GPUProvisioner.Namespace(), stack.GPUProvisioner.ServiceAccount(),
	)
	require.NoError(t, err)
	binary, err := filepath.Abs(filepath.Join(root, "bin", "gpu-provisioner"))
	require.NoError(t, err)
	launcher, err := process.NewLauncher(dir)
	require.NoError(t, err)
	t.Cleanup(launcher.Close)
	o.process, err = launcher.Start(process.Spec{
		Name: "gpu-provisioner", Binary: binary,
		Args: append([]string{
			"--kubeconfig=" + kubeconfig,
			"--azure-config=" + filepath.Join(dir, "azure.yaml"),
			"--namespace=" + stack.GPUProvisioner.Namespace(),
			"--leader-elect=false",
			"--health-probe-bind-address=" + o.probes,
			"--metrics-bind-address=0",
			"--zap-log-level=debug",
		}, flags...),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(o.process.Tail())
		}
		assert.NoError(t, o.process.Stop())
	})
	return o
}

func (o *own) federated(token string) {
	require.NoError(o.t, os.WriteFile(o.tokenFile, []byte(token), 0o600))
}

// probe asks as a kubelet, or a person, does.
func (o *own) probe(path string) (int, string) {
	response, err := http.Get("http://" + o.probes + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }() // read to the end
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, strings.TrimSpace(string(body))
}

func (o *own) eventually(path string, status int, text string) {
	o.t.Helper()
	require.EventuallyWithT(o.t, func(c *assert.CollectT) {
		require.NoError(c, o.process.Died())
		got, body := o.probe(path)
		assert.Equal(c, status, got, body)
		assert.Contains(c, body, text)
	}, eventually.Long, eventually.StoryTick)
}

func (o *own) log() string {
	raw, err := os.ReadFile(o.process.Log())
	require.NoError(o.t, err)
	return string(raw)
}

func TestRefusedIdentityIsNotReadyUntilItIsFixed(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(shared.Dir(), "azure-identity-token"))
	require.NoError(t, err)
	good := string(raw)
	const garbage = "bm90LWEtdG9rZW4.c2VjcmV0.c2lnbmF0dXJl"
	for _, tc := range []struct {
		name, token, says string
		spoil, mend       func(*own)
	}{
		{"the federated token is malformed", garbage, "AADSTS50027", func(*own) {}, func(o *own) { o.federated(good) }},
		{
			"no federated identity fits", good, "AADSTS700213",
			func(*own) { shared.Azure.AddFault(fakeazure.Fault{Verb: "token", Kind: "FederationBroken"}) }, func(*own) { shared.Azure.ClearFaults() },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spoil(nil)
			o := startOwn(t, tc.token)
			o.eventually("/readyz/identity", http.StatusInternalServerError, tc.says)
			status, line := o.probe("/readyz/identity")
			assert.NotContains(t, line, "\n", "one clear line")
			assert.Contains(t, line, "check the workload identity federation", "with what to do")
			assert.Equal(t, http.StatusInternalServerError, status)
			status, _ = o.probe("/readyz")
			assert.Equal(t, http.StatusInternalServerError, status)
			status, _ = o.probe("/healthz")
			assert.Equal(t, http.StatusOK, status, "a restart would not help")
			name := fmt.Sprintf("waits%d", len(tc.says))
			ask(t, machine(name, t4))
			condition(t, name, karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionUnknown, "IdentityUnauthorized")

			tc.mend(o)
			o.eventually("/readyz", http.StatusOK, "ok")
			ready(t, name)
			empty(t)

			log := o.log()
			assert.Equal(t, 1, strings.Count(log, `"Not ready"`), "said once")
			secrets := []string{good, garbage}
			for token := range kept(t).Tokens {
				secrets = append(secrets, token)
			}
			require.Greater(t, len(secrets), 2, "access tokens were given out")
			for _, secret := range secrets {
				assert.NotContains(t, log, secret, "a token in the log")
				parts := strings.Split(secret, ".")
				assert.NotContains(t, log, parts[len(parts)-1], "a token's signature in the log")
			}
		})
	}
}
