// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"kaito.sh/e2e/fakeazure"
)

const (
	a100    = "Standard_NC24ads_A100_v4"
	subject = "system:serviceaccount:kaito-system:gpu-provisioner"
)

// start is the time at which the cloud's clock starts.
var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// azure is a fake cloud with a clock that the test controls, and clients of the real SDK.
type azure struct {
	t      *testing.T
	server *fakeazure.Server
	clock  *clocktesting.FakeClock
	sdk
}

// sdk are the clients of one identity.
type sdk struct {
	clusters *armcontainerservice.ManagedClustersClient
	pools    *armcontainerservice.AgentPoolsClient
	machines *armcontainerservice.MachinesClient
	usages   *armcompute.UsageClient
	skus     *armcompute.ResourceSKUsClient
}

func newAzure(t *testing.T, change func(*fakeazure.Options)) *azure {
	t.Helper()
	options := fakeazure.Options{Dir: t.TempDir()}
	if change != nil {
		change(&options)
	}
	return restart(t, options, start)
}

// restart runs a server on the folder of the options, with the clock at a time.
func restart(t *testing.T, options fakeazure.Options, at time.Time) *azure {
	t.Helper()
	a := &azure{t: t, clock: clocktesting.NewFakeClock(at)}
	options.Clock = a.clock
	var err error
	a.server, err = fakeazure.New(options)
	require.NoError(t, err)
	require.NoError(t, a.server.Start())
	t.Cleanup(func() { assert.NoError(t, a.server.Stop()) })
	a.sdk = newSDK(t, a.server, federatedToken(t, newKey(t), nil))
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// federatedToken returns the content of a projected service account token volume.
func federatedToken(t *testing.T, key *ecdsa.PrivateKey, change func(*jwt.Claims)) string {
	t.Helper()
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "cluster"}}, nil,
	)
	require.NoError(t, err)
	claims := jwt.Claims{
		Issuer: "https://oidc.example/cluster", Subject: subject, Audience: jwt.Audience{"api://AzureADTokenExchange"},
		Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}
	if change != nil {
		change(&claims)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return token
}

func httpClient(t *testing.T, server *fakeazure.Server) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(server.CAFile())
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func newSDK(t *testing.T, server *fakeazure.Server, token string) sdk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	o := server.Options()
	client := azcore.ClientOptions{
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: server.AuthorityHost(),
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: server.ARMEndpoint(), Audience: server.ARMEndpoint()},
			},
		},
		Transport: httpClient(t, server),
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
	credential, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions:            client,
		TenantID:                 o.TenantID,
		ClientID:                 o.ClientID,
		TokenFilePath:            file,
		DisableInstanceDiscovery: true,
	})
	require.NoError(t, err)
	options := &arm.ClientOptions{ClientOptions: client, DisableRPRegistration: true}
	aks, err := armcontainerservice.NewClientFactory(o.SubscriptionID, credential, options)
	require.NoError(t, err)
	compute, err := armcompute.NewClientFactory(o.SubscriptionID, credential, options)
	require.NoError(t, err)
	return sdk{
		clusters: aks.NewManagedClustersClient(), pools: aks.NewAgentPoolsClient(), machines: aks.NewMachinesClient(),
		usages: compute.NewUsageClient(), skus: compute.NewResourceSKUsClient(),
	}
}

// gpuPool returns a body for a PUT.
func gpuPool(size string, count int32) armcontainerservice.AgentPool {
	return armcontainerservice.AgentPool{Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{
		VMSize:     &size,
		Count:      &count,
		Mode:       ptr.To(armcontainerservice.AgentPoolModeUser),
		OSType:     ptr.To(armcontainerservice.OSTypeLinux),
		Tags:       map[string]*string{"owner": ptr.To("test")},
		NodeTaints: []*string{ptr.To("sku=gpu:NoSchedule")},
		NodeLabels: map[string]*string{"team": ptr.To("ml")},
	}}
}

func spotPool(size string, count int32) armcontainerservice.AgentPool {
	p := gpuPool(size, count)
	p.Properties.ScaleSetPriority = ptr.To(armcontainerservice.ScaleSetPrioritySpot)
	return p
}

// resume resumes the operation of a token.
func resume(token string) *armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions {
	return &armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{ResumeToken: token}
}

type putPoller = runtime.Poller[armcontainerservice.AgentPoolsClientCreateOrUpdateResponse]

func (a *azure) beginPut(name string, body armcontainerservice.AgentPool) (*putPoller, error) {
	return a.pools.BeginCreateOrUpdate(a.t.Context(), a.group(), a.name(), name, body, nil)
}

// put starts a PUT and moves the clock to its end.
func (a *azure) put(name string, body armcontainerservice.AgentPool) (armcontainerservice.AgentPool, error) {
	a.t.Helper()
	poller, err := a.beginPut(name, body)
	if err != nil {
		return armcontainerservice.AgentPool{}, err
	}
	a.clock.Step(time.Hour)
	response, err := finish(a.t, poller)
	return response.AgentPool, err
}

func (a *azure) mustPut(name string, body armcontainerservice.AgentPool) armcontainerservice.AgentPool {
	a.t.Helper()
	p, err := a.put(name, body)
	require.NoError(a.t, err)
	return p
}

// look polls an operation once.
func look[T any](t *testing.T, poller *runtime.Poller[T]) error {
	t.Helper()
	response, err := poller.Poll(t.Context())
	if err == nil {
		require.NoError(t, response.Body.Close())
	}
	return err
}

// finish polls an operation that must have ended, and returns its error.
func finish[T any](t *testing.T, poller *runtime.Poller[T]) (T, error) {
	t.Helper()
	require.NoError(t, look(t, poller))
	require.True(t, poller.Done(), "the operation still runs")
	return poller.Result(t.Context())
}

// names returns the names of the machines that ARM lists.
func (a *azure) names(pool string) []string {
	a.t.Helper()
	var out []string
	pager := a.machines.NewListPager(a.group(), a.name(), pool, nil)
	for pager.More() {
		page, err := pager.NextPage(a.t.Context())
		require.NoError(a.t, err)
		for _, m := range page.Value {
			out = append(out, *m.Name)
		}
	}
	return out
}

func (a *azure) listPools(ctx context.Context) ([]string, error) {
	var out []string
	pager := a.pools.NewListPager(a.group(), a.name(), nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return out, err
		}
		for _, p := range page.Value {
			out = append(out, *p.Name)
		}
	}
	return out, nil
}

func (a *azure) beginDeleteMachines(
	pool string, names ...string,
) (*runtime.Poller[armcontainerservice.AgentPoolsClientDeleteMachinesResponse], error) {
	body := armcontainerservice.AgentPoolDeleteMachinesParameter{}
	for _, n := range names {
		body.MachineNames = append(body.MachineNames, &n)
	}
	return a.pools.BeginDeleteMachines(a.t.Context(), a.group(), a.name(), pool, body, nil)
}

func (a *azure) get(name string) armcontainerservice.ManagedClusterAgentPoolProfileProperties {
	a.t.Helper()
	p, err := a.pools.Get(a.t.Context(), a.group(), a.name(), name, nil)
	require.NoError(a.t, err)
	return *p.Properties
}

func (a *azure) group() string { return a.server.Options().ResourceGroup }
func (a *azure) name() string  { return a.server.Options().ClusterName }

// answer returns the SDK's error.
type answer struct {
	text   string
	header http.Header
}

// refused checks the status and code of an error.
func refused(t *testing.T, err error, status int, code string) answer {
	t.Helper()
	var response *azcore.ResponseError
	require.ErrorAs(t, err, &response)
	assert.Equal(t, status, response.StatusCode, response.Error())
	assert.Equal(t, code, response.ErrorCode, response.Error())
	return answer{text: response.Error(), header: response.RawResponse.Header}
}

// failedWith checks the code of a failed operation, which the SDK reads from the operation's body.
func failedWith(t *testing.T, err error, code string) {
	t.Helper()
	var response *azcore.ResponseError
	require.ErrorAs(t, err, &response)
	assert.Equal(t, code, response.ErrorCode, response.Error())
}

func readJSON(t *testing.T, r *http.Response, into any) {
	t.Helper()
	require.NoError(t, json.NewDecoder(r.Body).Decode(into))
	require.NoError(t, r.Body.Close())
}
