// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/scheme"
	"kaito.sh/workspace-operator/internal/watch"
	"kaito.sh/workspace-operator/internal/workspace"
)

// Environment of a subject's process.
const (
	envRole       = "BENCH_ROLE"
	envKubeconfig = "BENCH_KUBECONFIG"
	envQPS        = "BENCH_QPS"
	envBurst      = "BENCH_BURST"
	envBare       = "BENCH_BARE"
	envHold       = "BENCH_HOLD"
	// envProfile is for developers: a CPU profile of each subject goes to this path, with role and process id appended.
	envProfile = "BENCH_PROFILE"
)

// Roles.
const (
	roleFloor    = "bench-floor"
	roleOperator = "bench-operator"
)

// runSubject is the main function of a subject's process.
func runSubject(role string) error {
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv(envKubeconfig))
	if err != nil {
		return err
	}
	qps, err := strconv.Atoi(os.Getenv(envQPS))
	if err != nil {
		return err
	}
	config.QPS, config.UserAgent = float32(qps), role
	if config.Burst, err = strconv.Atoi(os.Getenv(envBurst)); err != nil {
		return err
	}
	scheme, err := scheme.New()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(
		config,
		ctrl.Options{
			Scheme: scheme, Cache: watch.CacheOptions(), Metrics: metricsserver.Options{BindAddress: "0"},
		},
	)
	if err != nil {
		return err
	}
	if role == roleFloor {
		err = setupFloor(mgr, os.Getenv(envBare) != "")
	} else {
		var c *catalog.Catalog
		if c, err = catalog.Load(); err != nil {
			return err
		}
		options := workspace.DefaultOptions()
		if options.StatusHold, err = time.ParseDuration(os.Getenv(envHold)); err != nil {
			return err
		}
		operator := workspace.Operator{
			Options: options, Catalog: c, Registry: prometheus.NewRegistry(), Clock: clock.RealClock{},
		}
		err = operator.SetupWithManager(ctx, mgr)
	}
	if err != nil {
		return err
	}
	if path := os.Getenv(envProfile); path != "" {
		file, err := os.Create(fmt.Sprintf("%s.%s.%d", path, role, os.Getpid())) //nolint:gosec // the developer names it
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }() // a profile that is cut short shows when it is read
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	err = mgr.Start(ctx)
	if os.Getenv(envProfile) != "" {
		countPasses(role)
	}
	return err
}

// countPasses says how often the subject has reconciled.
func countPasses(role string) {
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		return // a developer's aid
	}
	for _, f := range families {
		if f.GetName() != "controller_runtime_reconcile_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			fmt.Fprintln(os.Stderr, role, m.String())
		}
	}
}

// subject is a running process under measurement.
type subject struct {
	cmd *exec.Cmd
}

func startSubject(t *testing.T, role, kubeconfig string, qps, burst int) *subject {
	t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this test binary
	cmd.Env = append(
		os.Environ(), envRole+"="+role, envKubeconfig+"="+kubeconfig, fmt.Sprintf("%s=%d", envQPS, qps),
		fmt.Sprintf("%s=%d", envBurst, burst), envHold+"="+hold.String(),
	)
	if *bare {
		cmd.Env = append(cmd.Env, envBare+"=yes")
	}
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	return &subject{cmd: cmd}
}

// stopLimit is more than a manager gives its runnables to end.
const stopLimit = 45 * time.Second

// stop ends the process. One that does not end tells where it hangs, and fails the test.
func (s *subject) stop(t *testing.T) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // a stopped manager may report that its context ended
		close(ended)
	}()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-ended:
	case <-time.After(stopLimit):
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // all goroutines, on the standard error
		<-ended
		t.Errorf("the subject did not stop within %s", stopLimit)
	}
}

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for all architectures' /proc.
const ticksPerSecond = 100

// cpu is the processor time that the process has used.
func (s *subject) cpu(t *testing.T) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	require.NoError(t, err)
	// The second field is the command in brackets and may hold spaces; utime and stime are the 14th and 15th.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	require.NoError(t, err)
	system, err := strconv.ParseInt(fields[12], 10, 64)
	require.NoError(t, err)
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// memory is the most that the process has held resident, MiB.
func (s *subject) memory(t *testing.T) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	require.NoError(t, err)
	for _, line := range strings.Split(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			require.NoError(t, err)
			return kib / 1024
		}
	}
	return 0
}
