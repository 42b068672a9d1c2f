// SPDX-License-Identifier: Apache-2.0

package kindcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/constants"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/log"
)

// Options of a cluster.
type Options struct {
	// Name of the kind cluster. It should be fixed, so that what a killed process left is noticed.
	Name string
	// Image is the node image; empty means kind's default.
	Image string
	// Workers are nodes besides the control plane, Spares machines that have not joined.
	Workers, Spares int
	// Log gets a line now and then, for the start takes half a minute and longer where the image is pulled.
	Log io.Writer
}

// Cluster is a running kind cluster.
type Cluster struct {
	name     string
	folder   string
	provider *cluster.Provider
	spares   []nodes.Node
}

// ExistsError means that a cluster of the name exists, from a killed process or another user.
type ExistsError struct{ Name string }

func (e *ExistsError) Error() string {
	return fmt.Sprintf(
		"a kind cluster %s is there already: delete it (kind delete cluster --name %s), or use it by its kubeconfig", e.Name,
		e.Name,
	)
}

const (
	// readyWithin bounds the wait for the nodes to be Ready.
	readyWithin = 3 * time.Minute
	// reportEvery is the period of progress messages during a long start.
	reportEvery = 10 * time.Second
)

// Start makes a cluster. When it fails, or when ctx ends, what was made is deleted before it returns.
func Start(ctx context.Context, options Options) (_ *Cluster, err error) {
	engine, err := cluster.DetectNodeProvider()
	if err != nil {
		return nil, fmt.Errorf("kind needs Docker, Podman or nerdctl, and none runs here: %w", err)
	}
	c := &Cluster{name: options.Name, provider: cluster.NewProvider(engine, cluster.ProviderWithLogger(log.NoopLogger{}))}
	names, err := c.provider.List()
	if err != nil {
		return nil, fmt.Errorf("listing kind clusters: %w", err)
	}
	if slices.Contains(names, options.Name) {
		return nil, &ExistsError{Name: options.Name}
	}
	if c.folder, err = os.MkdirTemp("", "kaito-kind-"); err != nil {
		return nil, fmt.Errorf("making a folder for the kubeconfig: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.create(ctx, options); err != nil {
		return nil, err
	}
	if err := c.park(options.Spares); err != nil {
		return nil, err
	}
	return c, nil
}

// create returns early when ctx ends, but not before kind does: it takes no context, and a cluster half made cannot be
// deleted for sure.
func (c *Cluster) create(ctx context.Context, options Options) error {
	create := []cluster.CreateOption{
		cluster.CreateWithV1Alpha4Config(config(options.Workers + options.Spares)),
		cluster.CreateWithKubeconfigPath(c.Kubeconfig()),
		cluster.CreateWithWaitForReady(readyWithin),
		cluster.CreateWithDisplayUsage(false),
		cluster.CreateWithDisplaySalutation(false),
	}
	if options.Image != "" {
		create = append(create, cluster.CreateWithNodeImage(options.Image))
	}
	say := func(format string, args ...any) {
		if options.Log != nil {
			_, _ = fmt.Fprintf(options.Log, format+"\n", args...) // a closed terminal is not an error
		}
	}
	done := make(chan error, 1)
	go func() { done <- c.provider.Create(c.name, create...) }()
	started, tick := time.Now(), time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("making the kind cluster: %w", err)
			}
			return ctx.Err()
		case <-tick.C:
			say("still making the kind cluster (%.0f s)", time.Since(started).Seconds())
		case <-ctx.Done():
			say("waiting for kind to finish, to delete what it has made")
			<-done
			return ctx.Err()
		}
	}
}

// config also starts on hosts with cgroup v1, which kubelets refuse by default since v1.35.
func config(workers int) *v1alpha4.Cluster {
	out := &v1alpha4.Cluster{
		Nodes: []v1alpha4.Node{{Role: v1alpha4.ControlPlaneRole}},
		KubeadmConfigPatches: []string{`kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
failCgroupV1: false
`},
		ContainerdConfigPatches: registryPatches,
	}
	for range workers {
		out.Nodes = append(out.Nodes, v1alpha4.Node{Role: v1alpha4.WorkerRole})
	}
	v1alpha4.SetDefaultsCluster(out)
	return out
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.folder, "kubeconfig") }

// Stop deletes the cluster.
func (c *Cluster) Stop() error {
	return errors.Join(c.provider.Delete(c.name, c.Kubeconfig()), os.RemoveAll(c.folder))
}

// HostIP is this machine's address as the cluster's nodes and pods reach it.
func (c *Cluster) HostIP() (string, error) {
	out, err := c.Run("ip", "-4", "route", "show", "default")
	if err != nil {
		return "", err
	}
	fields := strings.Fields(out) // default via 172.18.0.1 dev eth0
	if len(fields) < 3 || fields[1] != "via" {
		return "", fmt.Errorf("the nodes have no gateway: %q", out)
	}
	return fields[2], nil
}

// Load brings an image archive of `docker save` to every node, spares among them, under its own name and more.
func (c *Cluster) Load(archive string, more ...string) error {
	all, err := c.provider.ListInternalNodes(c.name)
	if err != nil {
		return fmt.Errorf("listing the nodes: %w", err)
	}
	for _, node := range all {
		file, err := os.Open(archive) //nolint:gosec // the caller's own file
		if err != nil {
			return fmt.Errorf("loading an image (made by `make images`): %w", err)
		}
		err = nodeutils.LoadImageArchive(node, file)
		_ = file.Close() // only read
		if err != nil {
			return fmt.Errorf("loading %s into %s: %w", archive, node, err)
		}
		name := "docker.io/library/" + strings.TrimSuffix(filepath.Base(archive), ".tar") + ":dev"
		for _, other := range more {
			if _, err := output(node, "ctr", "--namespace=k8s.io", "images", "tag", "--force", name, other); err != nil {
				return err
			}
		}
	}
	return nil
}

// Run runs a command on the control plane's node, which reaches the addresses of pods and services.
func (c *Cluster) Run(command string, args ...string) (string, error) {
	all, err := c.provider.ListInternalNodes(c.name)
	if err != nil {
		return "", fmt.Errorf("listing the nodes: %w", err)
	}
	for _, node := range all {
		if role, err := node.Role(); err == nil && role == constants.ControlPlaneNodeRoleValue {
			return output(node, command, args...)
		}
	}
	return "", fmt.Errorf("the kind cluster %s has no control plane", c.name)
}

// CollectLogs writes the logs of nodes and pods to a folder.
func (c *Cluster) CollectLogs(folder string) error { return c.provider.CollectLogs(c.name, folder) }

// output runs a command in a node and returns what it printed.
func output(node nodes.Node, command string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	if err := node.Command(command, args...).SetStdout(&out).SetStderr(&errOut).Run(); err != nil {
		return "", fmt.Errorf("running %s in %s: %w: %s%s", command, node, err, out.String(), errOut.String())
	}
	return out.String(), nil
}
