// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	// SimulatedNodeAnnotation with SimulatedNodeValue on a Node makes KWOK act as its kubelet: it renews the lease of the
	// node and simulates its pods. It does not change capacity, allocatable and addresses.
	SimulatedNodeAnnotation = "kwok.x-k8s.io/node"
	SimulatedNodeValue      = "fake"

	// NotReadyAnnotation on a simulated Node makes it not Ready until the annotation is removed. Its value is the message.
	NotReadyAnnotation = "sim.kaito.sh/not-ready"
)

// KWOKConfig configures the answers of the simulated kubelets.
type KWOKConfig struct {
	// Forwards are the targets of port-forward and of the API server's proxy to pods.
	Forwards []Forward
	// Logs are the logs that `kubectl logs` shows.
	Logs []Logs
	// Jobs is the outcome of the pods of Jobs without an OutcomeAnnotation. nil: they succeed.
	Jobs Outcome
	// LeaseSeconds is the duration of a node's lease, which is renewed after a quarter of it. 0: 40, as in a kubelet.
	LeaseSeconds uint
}

// Forward sends connections to a port of simulated pods to a local server.
type Forward struct {
	// Namespaces and Pods (by name) select pods. Empty: all. The first Forward that matches pod and port is used.
	Namespaces, Pods []string
	// Port is the port of the pod. 0: all ports.
	Port int32
	// Target is the host:port of the local server.
	Target string
}

// Logs are the logs of simulated containers.
type Logs struct {
	// Namespaces, Pods and Containers (by name) select containers. Empty: all.
	Namespaces, Pods, Containers []string
	// File has lines in the CRI log format: "2026-01-02T15:04:05.000000000Z stdout F text".
	File string
}

func (k KWOKConfig) leaseSeconds() uint {
	if k.LeaseSeconds == 0 {
		return 40
	}
	return k.LeaseSeconds
}

// write writes the configuration file of KWOK.
func (k KWOKConfig) write(file string, kubelet corev1.NodeAddress) error {
	documents := k.stages(kubelet)
	for i, forward := range k.Forwards {
		document, err := forward.document(fmt.Sprintf("forward-%d", i))
		if err != nil {
			return err
		}
		documents = append(documents, document)
	}
	for i, logs := range k.Logs {
		documents = append(documents, logs.document(fmt.Sprintf("logs-%d", i)))
	}
	var content bytes.Buffer
	for _, document := range documents {
		text, err := yaml.Marshal(document)
		if err != nil {
			return fmt.Errorf("rendering KWOK's configuration: %w", err)
		}
		content.WriteString("---\n")
		content.Write(text)
	}
	return os.WriteFile(file, content.Bytes(), 0o600)
}

// object is an object of KWOK's API. The module does not depend on its Go types.
type object map[string]any

func kwokObject(kind, name string, spec object) object {
	return object{"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": object{"name": name}, "spec": spec}
}

func selector(namespaces, names []string) object {
	return object{"matchNamespaces": namespaces, "matchNames": names}
}

func (f Forward) document(name string) (object, error) {
	host, portText, err := net.SplitHostPort(f.Target)
	if err != nil {
		return nil, fmt.Errorf("the target %q of the forward of port %d must be host:port: %w", f.Target, f.Port, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf(
			"the target %q of the forward of port %d must end in a port from 1 to 65535: %w", f.Target, f.Port, err,
		)
	}
	forward := object{"target": object{"address": host, "port": port}}
	if f.Port != 0 {
		forward["ports"] = []int32{f.Port}
	}
	return kwokObject("ClusterPortForward", name, object{
		"selector": selector(f.Namespaces, f.Pods), "forwards": []object{forward},
	}), nil
}

func (l Logs) document(name string) object {
	return kwokObject("ClusterLogs", name, object{
		"selector": selector(l.Namespaces, l.Pods),
		"logs":     []object{{"containers": l.Containers, "logsFile": l.File, "follow": true}},
	})
}
