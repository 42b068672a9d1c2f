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

// AttachOptions say which cluster is used and how its simulated nodes behave.
type AttachOptions struct {
	// Kubeconfig is the file whose current context names the cluster, as somebody with every right.
	Kubeconfig string
	// NodeIP is the address of this machine at which the cluster's API server reaches KWOK, for logs and port-forward.
	// Empty means the one by which this machine reaches the cluster's nodes.
	NodeIP     string
	KWOKConfig KWOKConfig
	// Dir and Log are as in Options.
	Dir string
	Log io.Writer
}

// SimulatedNodesError says that the cluster has simulated nodes already: two KWOKs on one node would fight.
type SimulatedNodesError struct{ Names []string }

func (e *SimulatedNodesError) Error() string {
	return fmt.Sprintf(
		"the cluster has simulated nodes already (%v, by the annotation %s=%s): stop what keeps them and delete them, or use another cluster",
		e.Names, SimulatedNodeAnnotation, SimulatedNodeValue,
	)
}

// Attach uses a cluster that is there: it starts KWOK on this machine, and nothing else, and returns once KWOK serves.
// Stop ends KWOK; what was made in the cluster is its maker's to remove. There is no audit log.
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
	context.AfterFunc(ctx, func() { _ = c.Stop() }) // Stop's own caller gets the error too
	return c, nil
}

// useKubeconfig copies the current context, and no other secret of the file, and becomes its user.
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

// meetNodes refuses a cluster that KWOK keeps nodes of, and finds the address of this machine that its nodes can reach.
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
		// Dialling UDP sends nothing: it only asks the system which of its addresses it would send from.
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
	ports, err := freePorts(1)
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
	// The address that every API server looks at by default.
	wait, err := c.runKWOK(ctx, c.Kubeconfig(), ip, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	if err != nil {
		return err
	}
	return wait()
}
