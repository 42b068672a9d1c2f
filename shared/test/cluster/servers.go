// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"kaito.sh/shared/test/process"
)

// readyTick is the time between readiness checks. 100 ms would delay a start of three seconds noticeably.
const readyTick = 25 * time.Millisecond

// auditPolicy logs the metadata of completed requests, without health checks.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/metrics", "/openapi/*", "/version"]
- level: Metadata
`

func (c *Cluster) writeCertificates(context.Context) error {
	now := time.Now()
	var err error
	if c.ca, err = newAuthority(now); err != nil {
		return err
	}
	private, public, err := newServiceAccountKey()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"ca.crt": c.ca.pem, "service-account.key": private, "service-account.pub": public,
		"audit-policy.yaml": []byte(auditPolicy),
	} {
		if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
			return err
		}
	}
	for _, name := range []string{"kube-apiserver", "kwok"} {
		pair, err := c.ca.server(now, name)
		if err != nil {
			return err
		}
		if err := pair.write(c.dir.path, name); err != nil {
			return err
		}
	}
	return nil
}

// startServers starts etcd and the API server concurrently. The API server waits for etcd.
func (c *Cluster) startServers(ctx context.Context) error {
	ports, err := process.FreePorts(4)
	if err != nil {
		return err
	}
	etcd, peers := "http://"+process.Address(ports[0]), "http://"+process.Address(ports[1])
	c.server, c.kwokPort = process.Address(ports[2]), ports[3]
	if c.admin, err = c.userConfig("kubernetes-admin", "system:masters"); err != nil {
		return err
	}
	if err := c.writeKubeconfig(c.admin, "kubernetes-admin", "", c.Kubeconfig()); err != nil {
		return err
	}
	store, err := c.run("etcd", 0,
		"--data-dir="+c.file("etcd"),
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers,
		"--log-level=warn",
		"--unsafe-no-fsync", // the data is temporary, and disks of build machines are slow
		// There is one member: heartbeats ten times a second have no receiver and wake it up.
		"--heartbeat-interval=1000", "--election-timeout=10000",
	)
	if err != nil {
		return err
	}
	return c.runAPIServer(ctx, append(c.apiServerArguments(etcd, ports[2]), c.options.APIServerArgs...), store)
}

// apiServerLayer is above etcd, which the API server needs, and below its clients.
const apiServerLayer = 1

// apiServer is the running API server and its arguments.
type apiServer struct {
	process   *process.Process
	arguments []string
}

func (c *Cluster) runAPIServer(ctx context.Context, arguments []string, needs ...*process.Process) error {
	server, err := c.run("kube-apiserver", apiServerLayer, arguments...)
	if err != nil {
		return err
	}
	c.apiServer = &apiServer{process: server, arguments: arguments}
	return c.untilServing(ctx, "https://"+c.server+"/readyz", append(needs, server)...)
}

func (c *Cluster) apiServerArguments(etcd string, port int) []string {
	arguments := []string{
		"--etcd-servers=" + etcd,
		"--bind-address=" + process.Loopback, "--advertise-address=" + process.Loopback,
		"--secure-port=" + strconv.Itoa(port),
		// Endpoints of the Service "kubernetes", which is not used here, must not be loopback addresses.
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + c.file("kube-apiserver.crt"), "--tls-private-key-file=" + c.file("kube-apiserver.key"),
		"--client-ca-file=" + c.file("ca.crt"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + c.file("service-account.key"),
		"--service-account-key-file=" + c.file("service-account.pub"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--allow-privileged=true",
		"--audit-policy-file=" + c.file("audit-policy.yaml"),
		"--audit-log-path=" + c.AuditLog(),
		"--audit-log-maxsize=0", // requests in a rotated log would not be counted
		"--kubelet-certificate-authority=" + c.file("ca.crt"),
		// KWOK answers for each simulated node at the address of this type: see embeddedKubelet.
		"--kubelet-preferred-address-types=InternalDNS,InternalIP",
	}
	if !c.options.OwnSettings {
		// There are few clients. Fairness among them would cost time at each request, and its objects at each start.
		arguments = append(arguments, "--enable-priority-and-fairness=false")
	}
	if !c.options.ControllerManager {
		arguments = append(arguments, "--disable-admission-plugins=ServiceAccount")
	}
	return arguments
}

// WithoutAudit are APIServerArgs for tests that count no requests. It is read only.
var WithoutAudit = []string{"--audit-log-path=", "--audit-policy-file="}

// garbage has Go collect garbage a quarter as often: a fifth of the CPU time of the API servers of the end-to-end tests
// was for it. The limit keeps ten of them within the memory of the machine. It is far above what the objects of a test
// need: near the limit, Go would collect garbage most of the time.
var garbage = []string{"GOGC=400", "GOMEMLIMIT=1500MiB"}

// run starts a component and adds it to a layer. Stop stops the layers in reverse order.
func (c *Cluster) run(name string, layer int, arguments ...string) (*process.Process, error) {
	spec := process.Spec{Name: name, Binary: c.binaries[name], Args: arguments}
	if !c.options.OwnSettings {
		spec.Env = garbage
	}
	p, err := c.launcher.Start(spec)
	if err != nil {
		return nil, err
	}
	for len(c.layers) <= layer {
		c.layers = append(c.layers, nil)
	}
	c.layers[layer] = append(c.layers[layer], p)
	return p, nil
}

// untilServing requests the URL until it answers 200. It gives up when one of the processes ends.
func (c *Cluster) untilServing(ctx context.Context, url string, processes ...*process.Process) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.ca.pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	return until(ctx, url+" to answer", processes, func() (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return false, nil // not listening yet
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	})
}

// until calls done until it returns true, the context ends or one of the processes ends.
func until(ctx context.Context, what string, processes []*process.Process, done func() (bool, error)) error {
	ticker := time.NewTicker(readyTick)
	defer ticker.Stop()
	for {
		if yes, err := done(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			failures := []error{fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))}
			for _, p := range processes {
				failures = append(failures, fmt.Errorf("the last log lines of %s:\n%s", p.Name(), p.Tail()))
			}
			return errors.Join(failures...)
		case <-ticker.C:
		}
		for _, p := range processes {
			if err := p.Died(); err != nil {
				return err
			}
		}
	}
}
