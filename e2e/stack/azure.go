// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/fakeazure"
)

// exchangeAudience is what Entra demands of a federated token
// (https://learn.microsoft.com/entra/workload-id/workload-identity-federation).
const exchangeAudience = "api://AzureADTokenExchange"

// cloud is the fake Azure with its configuration for the gpu-provisioner.
type cloud struct{ server *fakeazure.Server }

func (c *cloud) stop() error { return c.server.Stop() }

// pools are the names of the agent pools that the cloud has.
func (c *cloud) pools() []string {
	var names []string
	for _, pool := range c.server.State().Pools {
		names = append(names, pool.Name)
	}
	return names
}

// startAzure starts the fake cloud; its VMs become Nodes of the cluster that KWOK keeps.
func (s *Stack) startAzure(context.Context) error {
	s.say("starting the fake Azure (Entra and ARM over TLS)")
	clientset, err := kubernetes.NewForConfig(s.Cluster.Config())
	if err != nil {
		return fmt.Errorf("making a client for the fake Azure: %w", err)
	}
	options := fakeazure.Options{
		Dir:   filepath.Join(s.dir, "azure"),
		Nodes: fakeazure.NewKWOK(clientset),
		// A real AKS takes minutes for each of these; the demo shows the order, not the waiting.
		Durations: fakeazure.Durations{
			CreatePool: 2 * time.Second, Scale: 2 * time.Second, DeletePool: time.Second, DeleteMachines: time.Second,
			VMBoot: time.Second, NodeJoin: time.Second,
		},
	}
	if s.options.Azure != nil {
		s.options.Azure(&options)
	}
	server, err := fakeazure.New(options)
	if err != nil {
		return fmt.Errorf("making the fake Azure: %w", err)
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting the fake Azure: %w", err)
	}
	s.Azure, s.cloud = server, &cloud{server: server}
	return nil
}

// writeAzureConfig writes the gpu-provisioner's config file and the federated token that its pod would have mounted.
func (s *Stack) writeAzureConfig(ctx context.Context) error {
	clientset, err := kubernetes.NewForConfig(s.Cluster.Config())
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	namespace, account := s.installed[GPUProvisioner].account()
	token, err := clientset.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{exchangeAudience}, ExpirationSeconds: ptr.To(int64(24 * 60 * 60)),
		}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("getting a federated token: %w", err)
	}
	tokenFile := filepath.Join(s.dir, "azure-identity-token")
	if err := os.WriteFile(tokenFile, []byte(token.Status.Token), 0o600); err != nil {
		return fmt.Errorf("writing the federated token: %w", err)
	}
	o := s.Azure.Options()
	config, err := yaml.Marshal(map[string]any{
		"cloud": "Custom", "resourceManagerEndpoint": s.Azure.ARMEndpoint(), "resourceManagerAudience": s.Azure.ARMEndpoint(),
		"authorityHost": s.Azure.AuthorityHost(), "caFile": s.Azure.CAFile(), "disableInstanceDiscovery": true,
		"subscriptionID": o.SubscriptionID, "resourceGroup": o.ResourceGroup, "clusterName": o.ClusterName,
		"auth": "workloadIdentity", "tenantID": o.TenantID, "clientID": o.ClientID, "tokenFile": tokenFile,
	})
	if err != nil {
		return fmt.Errorf("writing the Azure config: %w", err)
	}
	s.azureConfig = filepath.Join(s.dir, "azure.yaml")
	if err := os.WriteFile(s.azureConfig, config, 0o600); err != nil {
		return fmt.Errorf("writing the Azure config: %w", err)
	}
	return nil
}
