// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

// tokenLife is longer than any test and demonstration, because these tokens are not renewed.
const tokenLife = 24 * time.Hour

// ServiceAccountConfig returns the config of an existing service account, with a token of the TokenRequest API like
// that of a pod, and with the rights that RBAC grants. The token is valid for a day.
func (c *Cluster) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, error) {
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return nil, err
	}
	request, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(tokenLife.Seconds()))},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("requesting a token of service account %s/%s: %w", namespace, name, err)
	}
	config := rest.AnonymousClientConfig(c.admin)
	config.BearerToken, config.QPS = request.Status.Token, 0
	return config, nil
}

// ServiceAccountKubeconfig writes a kubeconfig with ServiceAccountConfig for another process, and returns its path. The
// current namespace is that of the service account.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	config, err := c.ServiceAccountConfig(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	file := c.file(fmt.Sprintf("sa-%s-%s.kubeconfig", namespace, name))
	return file, c.writeKubeconfig(config, name, namespace, file)
}

// userConfig returns the config of a user with a client certificate and without a client-side rate limit.
func (c *Cluster) userConfig(user string, groups ...string) (*rest.Config, error) {
	who, err := c.ca.client(time.Now(), user, groups...)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            "https://" + c.server,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.pem, CertData: who.certificate, KeyData: who.key},
		QPS:             -1,
	}, nil
}

// componentKubeconfig writes a kubeconfig for a component of the cluster, and returns its path.
func (c *Cluster) componentKubeconfig(component, user string, groups ...string) (string, error) {
	config, err := c.userConfig(user, groups...)
	if err != nil {
		return "", err
	}
	file := c.file(component + ".kubeconfig")
	return file, c.writeKubeconfig(config, user, "", file)
}

func (c *Cluster) writeKubeconfig(config *rest.Config, user, namespace, file string) error {
	if err := clientcmd.WriteToFile(*kubeconfig(config, user, namespace), file); err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	return nil
}

func kubeconfig(config *rest.Config, user, namespace string) *clientcmdapi.Config {
	const name = "kaito-test-cluster"
	out := clientcmdapi.NewConfig()
	out.Clusters[name] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData,
		InsecureSkipTLSVerify: config.Insecure, TLSServerName: config.ServerName}
	out.AuthInfos[user] = &clientcmdapi.AuthInfo{
		Token: config.BearerToken, ClientCertificateData: config.CertData, ClientKeyData: config.KeyData,
	}
	out.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user, Namespace: namespace}
	out.CurrentContext = name
	return out
}
