// SPDX-License-Identifier: Apache-2.0

// Package chaos_test holds the provisioner to its invariants between any two of its calls. Its controllers, engine and
// SDK run as a process of their own (gpu-provisioner/cmd/stepper) against a real API server and a fake Azure that
// speaks the real protocol, one step after another on a clock that the test holds: what happens in between, and where
// the process is killed, is the test's to say, and the same seed does the same again. Package provisioner_test runs the
// operator's own binary, in real time.
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

// shared is what all tests run on; they run one after another.
var shared struct {
	client   client.WithWatch
	nodes    kubernetes.Interface
	operator *rest.Config // with the operator's own rights
	binary   string
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "gpu-provisioner-chaos-")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // a leftover in the temporary folder is no failure
	shared.binary = filepath.Join(folder, "stepper")
	if out, err := exec.Command("go", "build", "-o", shared.binary, "kaito.sh/gpu-provisioner/cmd/stepper").
		CombinedOutput(); err != nil {
		return failed(fmt.Errorf("building the stepper: %w\n%s", err, out))
	}
	// Nodes are what the fake cloud makes of them: nobody keeps them Ready by the real clock.
	return cluster.Main(m, cluster.Options{
		CRDPaths: installed.CRDPaths(root),
		// There is one client, whose calls nobody counts: neither audit nor fairness is needed, and they cost a quarter of
		// the time.
		APIServerArgs: []string{"--audit-log-path=", "--audit-policy-file=", "--enable-priority-and-fairness=false"},
	}, func(c *cluster.Cluster) {
		if err := prepare(c); err != nil {
			// Every test would fail for this reason: say it once.
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
