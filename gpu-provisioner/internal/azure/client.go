// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// requestTimeout limits one HTTP exchange with Azure. ARM answers long operations with 202 at once, so after a minute
// the connection hangs.
const requestTimeout = time.Minute

// cloudConfiguration returns the SDK's description of the configured cloud.
func (c *Config) cloudConfiguration() cloud.Configuration {
	switch c.Cloud {
	case CloudGovernment:
		return cloud.AzureGovernment
	case CloudChina:
		return cloud.AzureChina
	case CloudCustom:
		return cloud.Configuration{
			ActiveDirectoryAuthorityHost: c.AuthorityHost,
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: c.ResourceManagerEndpoint, Audience: c.ResourceManagerAudience},
			},
		}
	default:
		return cloud.AzurePublic
	}
}

// clientOptions returns the options that the credential and the ARM clients share.
func (c *Config) clientOptions() (azcore.ClientOptions, error) {
	transport, err := c.transport()
	if err != nil {
		return azcore.ClientOptions{}, err
	}
	return azcore.ClientOptions{
		Cloud:     c.cloudConfiguration(),
		Transport: &http.Client{Transport: transport, Timeout: requestTimeout},
		// The SDK must not retry: it would sleep inside a reconcile and hide throttling from the rate limits. The reconciler
		// retries according to the error table and Retry-After.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{ApplicationID: "kaito-gpu-provisioner"},
	}, nil
}

func (c *Config) transport() (*http.Transport, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificates: %w", err)
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading caFile: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, &ConfigError{Field: "caFile", Value: c.CAFile, Allowed: "a file with at least one PEM certificate"}
		}
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          20,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	}, nil
}

func (c *Config) credential(opts azcore.ClientOptions) (azcore.TokenCredential, error) {
	switch c.Auth {
	case AuthManagedIdentity:
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: opts}
		if c.ClientID != "" {
			o.ID = azidentity.ClientID(c.ClientID)
		}
		return azidentity.NewManagedIdentityCredential(o)
	case AuthDefault:
		return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions: opts, TenantID: c.TenantID, DisableInstanceDiscovery: c.DisableInstanceDiscovery,
		})
	default:
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: opts, TenantID: c.TenantID, ClientID: c.ClientID, TokenFilePath: c.TokenFile,
			DisableInstanceDiscovery: c.DisableInstanceDiscovery,
		})
	}
}

// armClient builds the credential and the options of the ARM clients.
func (c *Config) armClient() (azcore.TokenCredential, *arm.ClientOptions, error) {
	opts, err := c.clientOptions()
	if err != nil {
		return nil, nil, err
	}
	credential := &renewing{build: func() (azcore.TokenCredential, error) { return c.credential(opts) }}
	if credential.current, err = credential.build(); err != nil {
		return nil, nil, fmt.Errorf("building the %s credential: %w", c.Auth, err)
	}
	return credential, &arm.ClientOptions{
		ClientOptions: opts,
		// The owner of the subscription registers resource providers.
		DisableRPRegistration: true,
	}, nil
}
