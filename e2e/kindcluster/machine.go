// SPDX-License-Identifier: Apache-2.0

package kindcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/kind/pkg/cluster/constants"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/shared/catalog"
)

// park takes the last nodes out of the cluster: containers that wait to be booted as machines.
func (c *Cluster) park(count int) error {
	all, err := c.provider.ListInternalNodes(c.name)
	if err != nil {
		return fmt.Errorf("listing the nodes: %w", err)
	}
	var workers []nodes.Node
	for _, node := range all {
		if role, err := node.Role(); err == nil && role == constants.WorkerNodeRoleValue {
			workers = append(workers, node)
		}
	}
	slices.SortFunc(workers, func(a, b nodes.Node) int { return strings.Compare(a.String(), b.String()) })
	for _, node := range workers[len(workers)-count:] {
		if err := reset(node); err != nil {
			return err
		}
		if _, err := c.Run(
			"kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "delete", "node", node.String(),
		); err != nil {
			return err
		}
		c.spares = append(c.spares, node)
	}
	return nil
}

func reset(node nodes.Node) error {
	_, err := output(node, "kubeadm", "reset", "--force", "--cleanup-tmp-dir")
	return err
}

// ErrNoSpare says that the cloud boots more machines than there are containers.
var ErrNoSpare = errors.New("every spare machine of the kind cluster is in use: ask for more Spares")

// machines are the node side of a fake cloud whose machines are the cluster's spares: a machine that boots is a spare
// that joins by kubeadm, under the name and with the provider id that the cloud gave it.
type machines struct {
	client  kubernetes.Interface
	catalog *catalog.Catalog
	mutex   sync.Mutex
	free    []nodes.Node
	used    map[string]nodes.Node
}

// Machines returns the node side of a cloud.
func (c *Cluster) Machines(client kubernetes.Interface) (fakeazure.NodeSide, error) {
	loaded, err := catalog.Load()
	if err != nil {
		return nil, fmt.Errorf("loading the catalogue for the GPUs of sizes: %w", err)
	}
	return &machines{client: client, catalog: loaded, free: c.spares, used: map[string]nodes.Node{}}, nil
}

// gpus of a size; sizes outside the catalogue have none.
func (m *machines) gpus(name string) int {
	size, err := m.catalog.Size(name)
	if err != nil {
		return 0
	}
	return size.GPUs
}

// Join has a spare join the cluster as the machine; a machine that has joined gets what it offers now.
func (m *machines) Join(ctx context.Context, vm fakeazure.VM) error {
	node, joined, err := m.take(vm.Name)
	if err != nil {
		return err
	}
	if !joined {
		if err := join(node, vm, m.gpus(vm.Size)); err != nil {
			return errors.Join(err, reset(node), m.putBack(vm.Name))
		}
	}
	if vm.NotReady {
		_, err := output(node, "systemctl", "stop", "kubelet")
		return err
	}
	return m.offer(ctx, vm)
}

// Leave takes the machine out of the cluster; its container is a spare again.
func (m *machines) Leave(ctx context.Context, vm fakeazure.VM) error {
	m.mutex.Lock()
	node, joined := m.used[vm.Name]
	m.mutex.Unlock()
	if joined {
		if err := reset(node); err != nil {
			return err
		}
	}
	err := m.client.CoreV1().Nodes().Delete(ctx, vm.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Node %s: %w", vm.Name, err)
	}
	return m.putBack(vm.Name)
}

func (m *machines) take(name string) (node nodes.Node, joined bool, err error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if node, joined = m.used[name]; joined {
		return node, true, nil
	}
	if len(m.free) == 0 {
		return nil, false, fmt.Errorf("machine %s: %w", name, ErrNoSpare)
	}
	node = m.free[0]
	m.free, m.used[name] = m.free[1:], node
	return node, false, nil
}

func (m *machines) putBack(name string) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if node, joined := m.used[name]; joined {
		delete(m.used, name)
		m.free = append(m.free, node)
	}
	return nil
}

// joinConfiguration is what kind wrote for the container, as far as it is kept.
type joinConfiguration struct {
	metav1.TypeMeta  `               json:",inline"`
	Discovery        map[string]any `json:"discovery"`
	NodeRegistration registration   `json:"nodeRegistration"`
}

type registration struct {
	Name             string         `json:"name"`
	CRISocket        string         `json:"criSocket,omitempty"`
	Taints           []corev1.Taint `json:"taints,omitempty"`
	KubeletExtraArgs []argument     `json:"kubeletExtraArgs,omitempty"`
}

type argument struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// join runs kubeadm with kind's own configuration, changed to what the cloud made of the machine.
func join(node nodes.Node, vm fakeazure.VM, gpus int) error {
	text, err := output(node, "cat", "/kind/kubeadm.conf")
	if err != nil {
		return err
	}
	config := joinConfiguration{}
	for document := range strings.SplitSeq(text, "\n---") {
		meta := metav1.TypeMeta{}
		if err := yaml.Unmarshal([]byte(document), &meta); err == nil && meta.Kind == "JoinConfiguration" {
			if err := yaml.Unmarshal([]byte(document), &config); err != nil {
				return fmt.Errorf("reading kind's join configuration: %w", err)
			}
		}
	}
	if config.Kind == "" {
		return fmt.Errorf("%s has no join configuration", node)
	}
	var labels []string
	all := vm.NodeLabels(gpus)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		labels = append(labels, key+"="+all[key])
	}
	r := &config.NodeRegistration
	r.Name, r.Taints = vm.Name, vm.NodeTaints()
	set := func(name, value string) {
		r.KubeletExtraArgs = slices.DeleteFunc(r.KubeletExtraArgs, func(a argument) bool { return a.Name == name })
		r.KubeletExtraArgs = append(r.KubeletExtraArgs, argument{Name: name, Value: value})
	}
	set("provider-id", vm.ProviderID)
	set("node-labels", strings.Join(labels, ","))
	out, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("writing the join configuration: %w", err)
	}
	const file = "/kind/machine.conf"
	if err := nodeutils.WriteFile(node, file, string(out)); err != nil {
		return fmt.Errorf("writing the join configuration: %w", err)
	}
	_, err = output(node, "kubeadm", "join", "--config="+file, "--skip-phases=preflight")
	return err
}

// offer writes the GPUs into the Node's status, where kubelets leave what no device plugin manages
// (https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/).
func (m *machines) offer(ctx context.Context, vm fakeazure.VM) error {
	gpus := 0
	if vm.GPU {
		gpus = m.gpus(vm.Size)
	}
	patch, err := json.Marshal(
		map[string]any{"status": map[string]any{"capacity": map[string]any{"nvidia.com/gpu": fmt.Sprint(gpus)}}},
	)
	if err != nil {
		return fmt.Errorf("writing the GPUs: %w", err)
	}
	_, err = m.client.CoreV1().
		Nodes().
		Patch(ctx, vm.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("offering the GPUs of Node %s: %w", vm.Name, err)
	}
	return nil
}
