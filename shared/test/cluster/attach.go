// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"kaito.sh/shared/test/process"
)

// AttachOptions select a cluster and configure its simulated nodes.
type AttachOptions struct {
	// Kubeconfig is a file whose current context selects the cluster and a user with all rights.
	Kubeconfig string
	// NodeIP is the address of this machine at which the API server of the cluster reaches KWOK, for logs and
	// port-forward. Empty: the address from which this machine reaches the nodes of the cluster.
	NodeIP     string
	KWOKConfig KWOKConfig
	// Dir and Log are as in Options.
	Dir string
	Log io.Writer
}

// SimulatedNodesError says that the cluster already has simulated nodes: two KWOKs would overwrite each other's
// updates.
type SimulatedNodesError struct{ Names []string }

func (e *SimulatedNodesError) Error() string {
	return fmt.Sprintf(
		"the cluster has simulated nodes already (%v, by the annotation %s=%s): stop what keeps them and delete them, or use another cluster",
		e.Names, SimulatedNodeAnnotation, SimulatedNodeValue,
	)
}

// Attach uses an existing cluster. It starts only KWOK, on this machine, and returns when KWOK serves. Stop ends KWOK
// and does not delete objects in the cluster. There is no audit log.
func Attach(ctx context.Context, options AttachOptions) (_ *Cluster, err error) {
	found, err := findBinaries("kwok")
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		options:  Options{KWOK: true, KWOKConfig: options.KWOKConfig, Dir: options.Dir, Log: options.Log},
		binaries: found, started: time.Now(), stopped: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if c.dir, err = openDirectory(options.Dir); err != nil {
		return nil, err
	}
	if c.launcher, err = process.NewLauncher(c.dir.path); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := c.useKubeconfig(options.Kubeconfig); err != nil {
		return nil, err
	}
	ip, err := c.meetNodes(limited, options.NodeIP)
	if err != nil {
		return nil, err
	}
	if err := c.attachKWOK(limited, ip); err != nil {
		return nil, fmt.Errorf("starting KWOK beside the cluster: %w", err)
	}
	c.say("kwok on " + ip)
	context.AfterFunc(ctx, func() { _ = c.Stop() }) // the caller of Stop gets the error too
	return c, nil
}

// useKubeconfig copies the current context of the file, without its other secrets, and uses its user.
func (c *Cluster) useKubeconfig(file string) error {
	loading := clientcmd.NewDefaultClientConfigLoadingRules()
	if file != "" {
		loading.ExplicitPath = file
	}
	config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(loading, nil)
	raw, err := config.RawConfig()
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if err := clientcmdapi.MinifyConfig(&raw); err != nil {
		return fmt.Errorf(
			"the kubeconfig %s has no usable current context, choose one by `kubectl config use-context`: %w",
			loading.GetDefaultFilename(),
			err,
		)
	}
	if err := clientcmdapi.FlattenConfig(&raw); err != nil {
		return fmt.Errorf("reading the files that the kubeconfig names: %w", err)
	}
	if err := clientcmd.WriteToFile(raw, c.Kubeconfig()); err != nil {
		return fmt.Errorf("copying the kubeconfig: %w", err)
	}
	if c.admin, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig()); err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	c.admin.QPS = -1
	return rest.LoadTLSFiles(c.admin)
}

// meetNodes refuses a cluster that already has simulated nodes, and returns the address of this machine for its nodes.
func (c *Cluster) meetNodes(ctx context.Context, ip string) (string, error) {
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return "", fmt.Errorf("making a client: %w", err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("listing the nodes of %s: %w", c.admin.Host, err)
	}
	var simulated, addresses []string
	for i := range nodes.Items {
		if nodes.Items[i].Annotations[SimulatedNodeAnnotation] == SimulatedNodeValue {
			simulated = append(simulated, nodes.Items[i].Name)
		}
		for _, address := range nodes.Items[i].Status.Addresses {
			if address.Type == corev1.NodeInternalIP {
				addresses = append(addresses, address.Address)
			}
		}
	}
	if len(simulated) > 0 {
		return "", &SimulatedNodesError{Names: simulated}
	}
	if ip != "" {
		return ip, nil
	}
	if server, err := url.Parse(c.admin.Host); err == nil {
		addresses = append(addresses, server.Hostname())
	}
	for _, address := range addresses {
		// Dialling UDP sends nothing. It only returns the local address that the system would use.
		dialer := net.Dialer{Timeout: time.Second}
		if route, err := dialer.DialContext(ctx, "udp", net.JoinHostPort(address, "9")); err == nil {
			local, _, err := net.SplitHostPort(route.LocalAddr().String())
			_ = route.Close()
			if err == nil {
				return local, nil
			}
		}
	}
	return "", fmt.Errorf(
		"no address of this machine leads to the cluster's nodes (%v): name one that the cluster's API server reaches",
		addresses,
	)
}

func (c *Cluster) attachKWOK(ctx context.Context, ip string) error {
	ports, err := process.FreePorts(1)
	if err != nil {
		return err
	}
	c.kwokPort = ports[0]
	now := time.Now()
	if c.ca, err = newAuthority(now); err != nil {
		return err
	}
	pair, err := c.ca.server(now, "kwok", net.ParseIP(ip))
	if err != nil {
		return err
	}
	if err := errors.Join(pair.write(c.dir.path, "kwok"), os.WriteFile(c.file("ca.crt"), c.ca.pem, 0o600)); err != nil {
		return err
	}
	// The type of address that API servers use by default.
	wait, err := c.runKWOK(ctx, c.Kubeconfig(), ip, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	if err != nil {
		return err
	}
	return wait()
}
