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

// ForTest starts a cluster that ends with the test. The test fails if binaries are missing, because a skipped test
// would not be noticed. It also fails if a component ends early.
func ForTest(t testing.TB, options Options) *Cluster {
	t.Helper()
	// t.Context() would end before the cleanup functions of the test, which may need the cluster.
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

// Main runs the tests of a package with one cluster, and returns the exit code. use receives the cluster before the
// first test:
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
	code := 130 // interrupted: running tests are abandoned
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
