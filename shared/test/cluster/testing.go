// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// ForTest starts a cluster that ends with the test. Missing binaries fail the test, with the remedy: a test that skips
// is a test that nobody runs. A component that ended by itself fails it too.
func ForTest(t testing.TB, options Options) *Cluster {
	t.Helper()
	// Not t.Context(), which ends before clean-ups run: those of the test may still need the cluster.
	c, err := Start(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("stopping the cluster: %v", err)
		}
	})
	return c
}

// Main runs a package's tests against one cluster, which use receives before the first test, and returns the exit code:
//
//	func TestMain(m *testing.M) {
//		os.Exit(cluster.Main(m, cluster.Options{…}, func(c *cluster.Cluster) { shared = c }))
//	}
func Main(m *testing.M, options Options, use func(*Cluster)) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	c, err := Start(ctx, options)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	use(c)
	finished := make(chan int, 1)
	go func() { finished <- m.Run() }()
	code := 130 // interrupted: the tests that still run are abandoned
	select {
	case code = <-finished:
	case <-ctx.Done():
	}
	if err := c.Stop(); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "stopping the cluster: %v\n", err)
		code = max(code, 1)
	}
	return code
}
