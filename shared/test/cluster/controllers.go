// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"kaito.sh/shared/test/process"
)

// startControllers starts the clients of the API server concurrently, and waits until each one works.
func (c *Cluster) startControllers(ctx context.Context) error {
	var waits []func() error
	if c.options.ControllerManager {
		wait, err := c.startControllerManager(ctx)
		if err != nil {
			return err
		}
		waits = append(waits, wait)
	}
	if c.options.Scheduler {
		if err := c.startScheduler(); err != nil {
			return err
		}
	}
	if c.options.KWOK {
		wait, err := c.startKWOK(ctx)
		if err != nil {
			return err
		}
		waits = append(waits, wait)
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startControllerManager(ctx context.Context) (wait func() error, err error) {
	kubeconfig, err := c.componentKubeconfig("kube-controller-manager", "system:kube-controller-manager")
	if err != nil {
		return nil, err
	}
	manager, err := c.run("kube-controller-manager", 2, append([]string{
		"--kubeconfig=" + kubeconfig,
		"--secure-port=0", // its work shows its health, so that it needs no port
		"--leader-elect=false",
		// Each controller has its own user, so that the audit log distinguishes them.
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + c.file("service-account.key"),
		"--root-ca-file=" + c.file("ca.crt"),
		// The default of 20 requests a second would delay tests that create many objects.
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}, c.options.ControllerManagerArgs...)...)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return nil, err
	}
	return func() error {
		return until(
			ctx,
			"the controller manager to make the default service account",
			[]*process.Process{manager},
			func() (bool, error) {
				_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
				if apierrors.IsNotFound(err) || ctx.Err() != nil {
					return false, nil
				}
				return err == nil, err
			},
		)
	}, nil
}

func (c *Cluster) startScheduler() error {
	kubeconfig, err := c.componentKubeconfig("kube-scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	_, err = c.run("kube-scheduler", 2, append([]string{
		"--kubeconfig=" + kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}, c.options.SchedulerArgs...)...)
	return err
}

// embeddedKubelet is the type of the address at which the API server finds KWOK for each simulated node. Other types
// stay free for the creator of the node.
var embeddedKubelet = corev1.NodeAddress{Type: corev1.NodeInternalDNS, Address: "localhost"}

func (c *Cluster) startKWOK(ctx context.Context) (wait func() error, err error) {
	// All rights: KWOK acts as all kubelets, whose rights the node authorizer would grant for each node.
	kubeconfig, err := c.componentKubeconfig("kwok", "kwok", "system:masters")
	if err != nil {
		return nil, err
	}
	return c.runKWOK(ctx, kubeconfig, process.Loopback, embeddedKubelet)
}

// runKWOK starts KWOK, which listens only on the address ip.
func (c *Cluster) runKWOK(
	ctx context.Context, kubeconfig, ip string, kubelet corev1.NodeAddress,
) (wait func() error, err error) {
	if err := c.options.KWOKConfig.write(c.file("kwok.yaml"), kubelet); err != nil {
		return nil, err
	}
	listen := net.JoinHostPort(ip, strconv.Itoa(c.kwokPort))
	kwok, err := c.run("kwok", 2,
		"--kubeconfig="+kubeconfig,
		"--config="+c.file("kwok.yaml"),
		"--manage-nodes-with-annotation-selector="+SimulatedNodeAnnotation+"="+SimulatedNodeValue,
		"--server-address="+listen, "--node-ip="+ip, fmt.Sprintf("--node-port=%d", c.kwokPort),
		"--tls-cert-file="+c.file("kwok.crt"), "--tls-private-key-file="+c.file("kwok.key"),
		"--cidr=10.244.0.0/16",
		fmt.Sprintf("--node-lease-duration-seconds=%d", c.options.KWOKConfig.leaseSeconds()),
	)
	if err != nil {
		return nil, err
	}
	return func() error {
		return c.untilServing(ctx, "https://"+listen+"/healthz", kwok)
	}, nil
}
