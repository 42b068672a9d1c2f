// SPDX-License-Identifier: Apache-2.0

package kindcluster

import (
	"fmt"
	"net"
	"strings"

	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
)

// hostsFolder is where containerd looks for how a registry is reached.
const hostsFolder = "/etc/containerd/certs.d/"

// registryPatches have containerd look there, under the names that its configuration has before and since version 3.
var registryPatches = []string{
	"[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"" + strings.TrimSuffix(hostsFolder, "/") + "\"\n",
	"[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"" + strings.TrimSuffix(
		hostsFolder, "/",
	) + "\"\n",
}

// Registry has every node, spares among them, find the registry of a name at an address (host:port), and trust its
// authority (PEM).
func (c *Cluster) Registry(name, address string, authority []byte) error {
	all, err := c.provider.ListInternalNodes(c.name)
	if err != nil {
		return fmt.Errorf("listing the nodes: %w", err)
	}
	folder := hostsFolder + name
	hosts := fmt.Sprintf(
		"server = \"https://%s\"\n[host.\"https://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"%s/ca.crt\"\n",
		address,
		address,
		folder,
	)
	for _, node := range all {
		if _, err := output(node, "mkdir", "-p", folder); err != nil {
			return err
		}
		for file, content := range map[string]string{"ca.crt": string(authority), "hosts.toml": hosts} {
			if err := nodeutils.WriteFile(node, folder+"/"+file, content); err != nil {
				return fmt.Errorf("telling %s of the registry %s: %w", node, name, err)
			}
		}
	}
	return nil
}

// NodeIP is an address by which pods, nodes and this machine reach the NodePorts of the cluster: the control plane's.
func (c *Cluster) NodeIP() (net.IP, error) {
	out, err := c.Run("hostname", "-i")
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Fields(out) {
		if ip := net.ParseIP(field).To4(); ip != nil {
			return ip, nil
		}
	}
	return nil, fmt.Errorf("the control plane's node has no IPv4 address: %q", out)
}
