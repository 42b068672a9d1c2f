// SPDX-License-Identifier: Apache-2.0

// Package provisioner_test runs the built gpu-provisioner as a process, with the rights of its role, with a real API
// server and a fake Azure that speaks the real protocol. It checks the invariants of package invariant all the time.
package provisioner_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/shared/test/cluster"
)

const (
	root      = "../.."
	namespace = installed.Namespace
	account   = installed.Account
)

// sites are the control planes of the tests, each with what the operator needs. A test takes one for itself: most of a
// story is waiting, so that several run at once.
var (
	sites  = make(chan site, siteCount)
	binary string
)

const siteCount = 3

type site struct {
	cluster *cluster.Cluster
	client  client.WithWatch
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	folder, err := os.MkdirTemp("", "gpu-provisioner-")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // the folder is temporary
	binary = filepath.Join(folder, "gpu-provisioner")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "kaito.sh/gpu-provisioner/cmd").CombinedOutput()
	if err != nil {
		return failed(fmt.Errorf("building the gpu-provisioner: %w\n%s", err, out))
	}
	var started errgroup.Group
	var stops []func() error
	var mu sync.Mutex
	for range siteCount {
		started.Go(func() error {
			c, err := cluster.Start(ctx, cluster.Options{
				ControllerManager: true, KWOK: true, CRDPaths: installed.CRDPaths(root), APIServerArgs: cluster.WithoutAudit,
			})
			if err != nil {
				return err
			}
			mu.Lock()
			stops = append(stops, c.Stop)
			mu.Unlock()
			direct, err := installed.Into(ctx, c, root)
			sites <- site{c, direct}
			return err
		})
	}
	code := 1
	if err := started.Wait(); err != nil {
		_ = failed(err)
	} else {
		code = m.Run()
	}
	for _, stop := range stops {
		if err := stop(); err != nil {
			code = max(code, failed(err))
		}
	}
	return code
}

func failed(err error) int {
	_, _ = fmt.Fprintln(os.Stderr, err)
	return 1
}
