// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// DefaultConfigPath is where the operator's Deployment mounts its configuration.
const DefaultConfigPath = "/etc/gpu-provisioner/azure.yaml"

// Clouds that the configuration can name.
const (
	CloudPublic     = "AzurePublicCloud"
	CloudGovernment = "AzureUSGovernment"
	CloudChina      = "AzureChinaCloud"
	CloudCustom     = "Custom"
)

// Ways to authenticate.
const (
	AuthWorkloadIdentity = "workloadIdentity"
	AuthManagedIdentity  = "managedIdentity"
	AuthDefault          = "default"
)

// Config names the AKS cluster and the operator's identity. The cluster's location and node resource group are read
// from the cluster.
type Config struct {
	// Cloud is AzurePublicCloud (the default), AzureUSGovernment, AzureChinaCloud or Custom.
	Cloud string `json:"cloud,omitempty"`
	// ResourceManagerEndpoint, ResourceManagerAudience and AuthorityHost describe a Custom cloud. All are https URLs.
	ResourceManagerEndpoint string `json:"resourceManagerEndpoint,omitempty"`
	ResourceManagerAudience string `json:"resourceManagerAudience,omitempty"`
	AuthorityHost           string `json:"authorityHost,omitempty"`
	// CAFile is the path of PEM certificates to trust besides the system's, for a Custom cloud or a proxy that inspects
	// TLS.
	CAFile string `json:"caFile,omitempty"`
	// DisableInstanceDiscovery stops the credential from validating AuthorityHost at login.microsoft.com. A disconnected
	// Custom cloud needs it.
	DisableInstanceDiscovery bool `json:"disableInstanceDiscovery,omitempty"`

	SubscriptionID string `json:"subscriptionID"`
	ResourceGroup  string `json:"resourceGroup"`
	ClusterName    string `json:"clusterName"`

	// Auth is workloadIdentity (the default), managedIdentity or default (the SDK's credential chain).
	Auth string `json:"auth,omitempty"`
	// TenantID, ClientID and TokenFile default to AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE, which
	// the workload identity webhook sets on the pod.
	TenantID  string `json:"tenantID,omitempty"`
	ClientID  string `json:"clientID,omitempty"`
	TokenFile string `json:"tokenFile,omitempty"`
}

// ConfigError is a problem of one field of the configuration.
type ConfigError struct {
	Field   string
	Value   string
	Allowed string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("azure config: %s is %q; allowed: %s", e.Field, e.Value, e.Allowed)
}

// LoadConfig reads the file, completes it from the environment and validates it. The error is one line.
func LoadConfig(path string, getenv func(string) string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("azure config: reading the file that --azure-config names: %w", err)
	}
	return ParseConfig(raw, getenv)
}

// ParseConfig is LoadConfig for bytes. An unknown field is an error, because a typo must not result in a default.
func ParseConfig(raw []byte, getenv func(string) string) (Config, error) {
	var c Config
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return Config{}, fmt.Errorf(
			"azure config: not valid YAML of the known fields: %s", strings.Join(strings.Fields(err.Error()), " "),
		)
	}
	c.complete(getenv)
	if err := c.validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c *Config) complete(getenv func(string) string) {
	fallback := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fallback(&c.Cloud, CloudPublic)
	fallback(&c.Auth, AuthWorkloadIdentity)
	fallback(&c.TenantID, getenv("AZURE_TENANT_ID"))
	fallback(&c.ClientID, getenv("AZURE_CLIENT_ID"))
	fallback(&c.TokenFile, getenv("AZURE_FEDERATED_TOKEN_FILE"))
	if c.Cloud == CloudCustom {
		fallback(&c.AuthorityHost, getenv("AZURE_AUTHORITY_HOST"))
		fallback(&c.ResourceManagerAudience, c.ResourceManagerEndpoint)
	}
}

var (
	uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	// Azure's naming rules: resource groups have 1-90 letters, digits, underscores, parentheses, hyphens and periods, and
	// do not end in a period; managed clusters have 1-63 letters, digits, underscores and hyphens.
	resourceGroupName = regexp.MustCompile(`^[-\w().]{0,89}[-\w()]$`)
	clusterName       = regexp.MustCompile(`^[a-zA-Z0-9]$|^[a-zA-Z0-9][-\w]{0,61}[a-zA-Z0-9]$`)
)

func (c *Config) validate() error {
	clouds := []string{CloudPublic, CloudGovernment, CloudChina, CloudCustom}
	auths := []string{AuthWorkloadIdentity, AuthManagedIdentity, AuthDefault}
	checks := []struct {
		ok                    bool
		field, value, allowed string
	}{
		{slices.Contains(clouds, c.Cloud), "cloud", c.Cloud, strings.Join(clouds, ", ")},
		{
			uuid.MatchString(c.SubscriptionID),
			"subscriptionID",
			c.SubscriptionID,
			"the GUID that `az account show --query id` prints",
		},
		{
			resourceGroupName.MatchString(c.ResourceGroup),
			"resourceGroup",
			c.ResourceGroup,
			"the name of the cluster's own resource group, 1-90 characters (not the node resource group)",
		},
		{
			clusterName.MatchString(c.ClusterName),
			"clusterName",
			c.ClusterName,
			"the name of the AKS cluster, 1-63 letters, digits, _ or -",
		},
		{slices.Contains(auths, c.Auth), "auth", c.Auth, strings.Join(auths, ", ")},
	}
	for _, check := range checks {
		if !check.ok {
			return &ConfigError{Field: check.field, Value: check.value, Allowed: check.allowed}
		}
	}
	if err := c.validateCloud(); err != nil {
		return err
	}
	return c.validateIdentity()
}

func (c *Config) validateCloud() error {
	custom := []struct{ field, value string }{
		{"resourceManagerEndpoint", c.ResourceManagerEndpoint},
		{"resourceManagerAudience", c.ResourceManagerAudience},
		{"authorityHost", c.AuthorityHost},
	}
	for _, f := range custom {
		if c.Cloud != CloudCustom {
			if f.value != "" {
				return &ConfigError{Field: f.field, Value: f.value, Allowed: "empty, unless cloud is Custom"}
			}
			continue
		}
		if u, err := url.Parse(f.value); err != nil || u.Scheme != "https" || u.Host == "" {
			return &ConfigError{Field: f.field, Value: f.value, Allowed: "an https URL, since cloud is Custom"}
		}
	}
	if c.CAFile != "" {
		if _, err := os.Stat(c.CAFile); err != nil {
			return &ConfigError{Field: "caFile", Value: c.CAFile, Allowed: "the path of a readable PEM file"}
		}
	}
	return nil
}

func (c *Config) validateIdentity() error {
	if c.Auth != AuthWorkloadIdentity {
		return nil
	}
	if !uuid.MatchString(c.TenantID) {
		return &ConfigError{
			Field:   "tenantID",
			Value:   c.TenantID,
			Allowed: "the tenant's GUID, here or in AZURE_TENANT_ID (auth is workloadIdentity)",
		}
	}
	if !uuid.MatchString(c.ClientID) {
		return &ConfigError{
			Field:   "clientID",
			Value:   c.ClientID,
			Allowed: "the identity's client id, here or in AZURE_CLIENT_ID (auth is workloadIdentity)",
		}
	}
	if c.TokenFile == "" {
		return &ConfigError{
			Field:   "tokenFile",
			Value:   "",
			Allowed: "the path of the projected service account token, here or in AZURE_FEDERATED_TOKEN_FILE (is the pod labelled azure.workload.identity/use=true?)",
		}
	}
	return nil
}
