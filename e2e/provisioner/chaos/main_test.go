// SPDX-License-Identifier: Apache-2.0

// Package chaos_test checks the gpu-provisioner's invariants between any two of its calls. Its controllers, engine and
// SDK run as a separate process (gpu-provisioner/cmd/stepper) with a real API server and a fake Azure that speaks the
// real protocol, one step after another on a clock that the test controls. The test decides what happens in between and
// when the process is killed, and the same seed repeats a run. Package provisioner_test runs the operator's binary in
// real time.
package chaos_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/shared/test/cluster"
)

const root = "../../.."

// shared is used by all tests, which run one after another.
var shared struct {
	client   client.WithWatch
	nodes    kubernetes.Interface
	operator *rest.Config // with the rights of the operator
	binary   string
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "gpu-provisioner-chaos-")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // the folder is temporary
	shared.binary = filepath.Join(folder, "stepper")
	if out, err := exec.Command("go", "build", "-o", shared.binary, "kaito.sh/gpu-provisioner/cmd/stepper").
		CombinedOutput(); err != nil {
		return failed(fmt.Errorf("building the stepper: %w\n%s", err, out))
	}
	// The fake cloud sets the state of Nodes. Nothing keeps them Ready by the real clock.
	return cluster.Main(m, cluster.Options{
		CRDPaths:      installed.CRDPaths(root),
		APIServerArgs: cluster.WithoutAudit,
	}, func(c *cluster.Cluster) {
		if err := prepare(c); err != nil {
			// Every test would fail for this reason: report it once.
			_ = failed(err)
			_ = c.Stop()
			os.Exit(1)
		}
	})
}

func prepare(c *cluster.Cluster) (err error) {
	ctx := context.Background()
	if shared.client, err = installed.Into(ctx, c, root); err != nil {
		return err
	}
	if shared.nodes, err = kubernetes.NewForConfig(c.Config()); err != nil {
		return err
	}
	shared.operator, err = c.ServiceAccountConfig(ctx, installed.Namespace, installed.Account)
	return err
}

func failed(err error) int {
	_, _ = fmt.Fprintln(os.Stderr, err)
	return 1
}
