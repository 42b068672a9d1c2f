// SPDX-License-Identifier: Apache-2.0

// Package provisioner_test runs the built gpu-provisioner as a process, with the rights of its role, with a real API
// server and a fake Azure that speaks the real protocol. It checks the invariants of package invariant all the time.
package provisioner_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/shared/test/cluster"
)

const (
	root      = "../.."
	namespace = installed.Namespace
	account   = installed.Account
)

// shared is used by all tests, which run one after another.
var shared struct {
	cluster *cluster.Cluster
	client  client.WithWatch
	binary  string
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "gpu-provisioner-")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // the folder is temporary
	shared.binary = filepath.Join(folder, "gpu-provisioner")
	if out, err := exec.Command("go", "build", "-o", shared.binary, "kaito.sh/gpu-provisioner/cmd").
		CombinedOutput(); err != nil {
		return failed(fmt.Errorf("building the gpu-provisioner: %w\n%s", err, out))
	}
	code := cluster.Main(m, cluster.Options{
		ControllerManager: true, KWOK: true, CRDPaths: installed.CRDPaths(root),
	}, func(c *cluster.Cluster) {
		shared.cluster = c
		if shared.client, err = installed.Into(context.Background(), c, root); err != nil {
			// Every test would fail for this reason: report it once.
			_ = failed(err)
			_ = c.Stop()
			os.Exit(1)
		}
	})
	return code
}

func failed(err error) int {
	_, _ = fmt.Fprintln(os.Stderr, err)
	return 1
}
