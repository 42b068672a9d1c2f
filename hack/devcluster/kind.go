package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/log"

	"kaito.sh/e2e/stack"
)

// kindName is the demo's kind cluster. It is fixed, so that one that a killed demo left is noticed.
const kindName = "kaito-demo"

// kindWithin bounds the wait for a kind cluster's node to be Ready.
const kindWithin = 3 * time.Minute

// onKind makes a kind cluster, shows the main job on it, and deletes it.
func (d *demo) onKind(ctx context.Context) (err error) {
	detected, err := cluster.DetectNodeProvider()
	if err != nil {
		return fmt.Errorf("CLUSTER=kind needs Docker, Podman or nerdctl running here: %w", err)
	}
	provider := cluster.NewProvider(detected, cluster.ProviderWithLogger(log.NoopLogger{}))
	names, err := provider.List()
	if err != nil {
		return fmt.Errorf("listing kind clusters: %w", err)
	}
	if slices.Contains(names, kindName) {
		return fmt.Errorf("a kind cluster %s is there already: delete it (kind delete cluster --name %s), or use it (CLUSTER=existing)", kindName, kindName)
	}
	folder, err := os.MkdirTemp("", "kaito-kind-")
	if err != nil {
		return fmt.Errorf("making a folder for the kubeconfig: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	kubeconfig := filepath.Join(folder, "kubeconfig")

	d.title("Making the kind cluster " + kindName)
	started := time.Now()
	defer func() {
		d.line("deleting the kind cluster")
		err = errors.Join(err, provider.Delete(kindName, kubeconfig))
	}()
	if err := d.createKind(ctx, provider, kubeconfig); err != nil {
		return err
	}
	d.line("there after %.1f s", time.Since(started).Seconds())
	return d.on(ctx, &stack.Existing{Kubeconfig: kubeconfig})
}

// createKind ends early when ctx does; what it has made by then is deleted by its caller.
func (d *demo) createKind(ctx context.Context, provider *cluster.Provider, kubeconfig string) error {
	options := []cluster.CreateOption{
		cluster.CreateWithV1Alpha4Config(kindConfig()), cluster.CreateWithKubeconfigPath(kubeconfig), cluster.CreateWithWaitForReady(kindWithin),
		cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false), cluster.CreateWithRetain(false),
	}
	if d.kindest != "" {
		options = append(options, cluster.CreateWithNodeImage(d.kindest))
	}
	done := make(chan error, 1)
	go func() { done <- provider.Create(kindName, options...) }()
	for started, tick := time.Now(), time.NewTicker(10*time.Second); ; {
		select {
		case err := <-done:
			tick.Stop()
			if err != nil {
				return fmt.Errorf("making the kind cluster: %w", err)
			}
			return ctx.Err()
		case <-tick.C:
			d.line("still at it (%.0f s)", time.Since(started).Seconds())
		case <-ctx.Done():
			// kind takes no context: it is let finish, for a cluster half made cannot be deleted for sure.
			d.line("waiting for kind to finish, to delete what it has made")
			<-done
			return ctx.Err()
		}
	}
}

// kindConfig is one node; it also starts on hosts with cgroup v1, which kubelets refuse by default since v1.35.
func kindConfig() *v1alpha4.Cluster {
	config := &v1alpha4.Cluster{
		Nodes: []v1alpha4.Node{{Role: v1alpha4.ControlPlaneRole}},
		KubeadmConfigPatches: []string{`kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
failCgroupV1: false
`},
	}
	v1alpha4.SetDefaultsCluster(config)
	return config
}
