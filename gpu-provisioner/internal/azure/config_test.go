// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	guidA = "11111111-2222-3333-4444-555555555555"
	valid = "subscriptionID: " + guidA + "\nresourceGroup: ml\nclusterName: ai\n"
)

func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

var webhook = environment(map[string]string{
	"AZURE_TENANT_ID":            guidA,
	"AZURE_CLIENT_ID":            guidA,
	"AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure/tokens/azure-identity-token",
})

func TestIdentityDefaultsToTheEnvironment(t *testing.T) {
	c, err := ParseConfig([]byte(valid), webhook)
	require.NoError(t, err)
	assert.Equal(t, CloudPublic, c.Cloud)
	assert.Equal(t, AuthWorkloadIdentity, c.Auth)
	assert.Equal(t, guidA, c.ClientID)
	assert.Equal(t, "/var/run/secrets/azure/tokens/azure-identity-token", c.TokenFile)
}

func TestInvalidConfigNamesTheField(t *testing.T) {
	for name, tc := range map[string]struct {
		yaml string
		env  func(string) string
		want []string
	}{
		"an unknown cloud":                     {valid + "cloud: AzureMoon\n", webhook, []string{"cloud", "AzureMoon", CloudGovernment}},
		"a subscription that is a name":        {strings.Replace(valid, guidA, "Pay-as-you-go", 1), webhook, []string{"subscriptionID", "Pay-as-you-go", "az account show"}},
		"no cluster":                           {"subscriptionID: " + guidA + "\nresourceGroup: ml\n", webhook, []string{"clusterName", `""`}},
		"no identity":                          {valid, environment(nil), []string{"tenantID", "AZURE_TENANT_ID"}},
		"no token":                             {valid, environment(map[string]string{"AZURE_TENANT_ID": guidA, "AZURE_CLIENT_ID": guidA}), []string{"tokenFile", "azure.workload.identity/use=true"}},
		"an unknown kind of auth":              {valid + "auth: password\n", webhook, []string{"auth", "password", AuthManagedIdentity}},
		"a custom cloud without an endpoint":   {valid + "cloud: Custom\n", webhook, []string{"resourceManagerEndpoint", "https"}},
		"a custom cloud without TLS":           {valid + "cloud: Custom\nresourceManagerEndpoint: http://arm.local\nauthorityHost: https://login.local\n", webhook, []string{"resourceManagerEndpoint", "http://arm.local"}},
		"an endpoint for a cloud that has one": {valid + "authorityHost: https://login.local\n", webhook, []string{"authorityHost", "cloud is Custom"}},
		"a CA file that is not there":          {valid + "caFile: /nowhere/ca.pem\n", webhook, []string{"caFile", "/nowhere/ca.pem"}},
		"a typo":                               {valid + "resourcegroup2: x\n", webhook, []string{"resourcegroup2"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig([]byte(tc.yaml), tc.env)
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "\n")
			for _, want := range tc.want {
				assert.Contains(t, err.Error(), want)
			}
		})
	}
}

func TestManagedIdentityNeedsNoToken(t *testing.T) {
	_, err := ParseConfig([]byte(valid+"auth: managedIdentity\n"), environment(nil))
	assert.NoError(t, err)
}

func TestCustomCloudEndpoints(t *testing.T) {
	c, err := ParseConfig(
		[]byte(valid+"cloud: Custom\nresourceManagerEndpoint: https://arm.local:8443\nauthorityHost: https://login.local\n"),
		webhook,
	)
	require.NoError(t, err)
	cc := c.cloudConfiguration()
	assert.Equal(t, "https://login.local", cc.ActiveDirectoryAuthorityHost)
	assert.Equal(t, "https://arm.local:8443", cc.Services[cloud.ResourceManager].Endpoint)
	assert.Equal(
		t,
		"https://arm.local:8443",
		cc.Services[cloud.ResourceManager].Audience,
		"the audience defaults to the endpoint",
	)
}

func TestProviderIDsDoNotDependOnLetterCase(t *testing.T) {
	const want = "azure:///subscriptions/" + guidA + "/resourceGroups/mc_ml_ai_eastus/providers/Microsoft.Compute/virtualMachineScaleSets/aks-gabc0-123-vmss/virtualMachines/0"
	for _, id := range []string{
		"/subscriptions/" + guidA + "/resourceGroups/MC_ml_ai_eastus/providers/Microsoft.Compute/virtualMachineScaleSets/aks-gabc0-123-vmss/virtualMachines/0",
		"/SUBSCRIPTIONS/" + guidA + "/resourcegroups/MC_ML_AI_EASTUS/providers/microsoft.compute/virtualmachinescalesets/aks-gabc0-123-vmss/virtualmachines/0",
		want,
	} {
		assert.Equal(t, want, ProviderID(id))
	}
	for _, id := range []string{"", "/subscriptions/x", "/subscriptions/a/resourceGroups/b/providers/Microsoft.Compute/virtualMachines/vm0", strings.Replace(want, "mc_ml_ai_eastus", "", 1)} {
		assert.Empty(t, ProviderID(id), id)
	}
}

func TestPoolOfAMachine(t *testing.T) {
	set := "azure:///subscriptions/s/resourceGroups/mc/providers/Microsoft.Compute/virtualMachineScaleSets/"
	for id, want := range map[string]string{
		set + "aks-gabcdefgh12-31415926-vmss/virtualMachines/0":                                               "gabcdefgh12",
		set + "aks-gabcdefgh1-31415926-vmss/virtualMachines/0":                                                "gabcdefgh1",
		set + "mine/virtualMachines/0":                                                                        "",
		set + "aks-g-h-31415926-vmss/virtualMachines/0":                                                       "",
		"azure:///subscriptions/s/resourceGroups/mc/providers/Microsoft.Compute/virtualMachines/aks-g-1-vmss": "",
		"": "",
	} {
		assert.Equal(t, want, PoolOf(id), id)
	}
}
