// SPDX-License-Identifier: Apache-2.0

// Package manager starts an operator: the same flags, logs, probes, metrics, leader election and cache for all three.
package manager

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Options of an operator.
type Options struct {
	// Name is the operator's: its lease, its user agent and its logs carry it.
	Name string
	// Short is one line for --help.
	Short string
	// Scheme holds the kinds that the operator reads and writes.
	Scheme *runtime.Scheme
	// Cache limits what is watched. Managed fields are stripped when it says nothing of a transform.
	Cache cache.Options
	// Namespaced offers --watch-namespace: all that the operator does in namespaces it can do in one alone.
	Namespaced bool
	// Client is passed on; nil reads unstructured objects and everything else from the cache.
	Client client.Options
	// Flags adds the operator's own flags. They are parsed before Setup is called.
	Flags func(*flag.FlagSet)
	// Setup adds the controllers. It must not block; ctx ends when the process is told to stop.
	Setup func(ctx context.Context, mgr ctrl.Manager) error
}

// Main runs the operator until it is told to stop, and returns the process's exit code:
// 0 for a clean stop or --help, 2 for wrong flags, 1 for everything else.
func Main(opts Options) int {
	return run(ctrl.SetupSignalHandler(), opts, os.Args[1:], os.Stderr)
}

func run(ctx context.Context, opts Options, args []string, out io.Writer) int {
	settings, err := parse(opts, args, out)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case settings.version:
		_, _ = fmt.Fprintln(out, opts.Name, Version())
		return 0
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&settings.zap)).WithName(opts.Name))
	if err := start(ctx, opts, settings); err != nil {
		// One line that says what to do is worth more than a stack.
		_, _ = fmt.Fprintf(out, "%s: %v\n", opts.Name, err)
		return 1
	}
	return 0
}

func start(ctx context.Context, opts Options, s settings) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster (run inside one, or set --kubeconfig or KUBECONFIG): %w", err)
	}
	mgr, err := newManager(config, opts, s)
	if err != nil {
		return err
	}
	if err := opts.Setup(ctx, mgr); err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

// newManager makes the manager that Main starts.
func newManager(config *rest.Config, opts Options, s settings) (ctrl.Manager, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = float32(s.qps), s.burst
	config.UserAgent = opts.Name + "/" + Version()
	if opts.Cache.DefaultTransform == nil {
		opts.Cache.DefaultTransform = cache.TransformStripManagedFields()
	}
	if s.watchNamespace != "" {
		// Kinds that are in no namespace are cached as ever.
		opts.Cache.DefaultNamespaces = map[string]cache.Config{s.watchNamespace: {}}
	}
	metrics := metricsserver.Options{BindAddress: s.metricsAddress, SecureServing: s.metricsSecure}
	if s.metricsSecure {
		metrics.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	options := ctrl.Options{
		Scheme:                        opts.Scheme,
		Cache:                         opts.Cache,
		Client:                        opts.Client,
		Metrics:                       metrics,
		HealthProbeBindAddress:        s.probeAddress,
		LeaderElection:                s.leaderElect,
		LeaderElectionReleaseOnCancel: true,
	}
	if s.leaderElect {
		deadline, retry, request := renewal(s.leaseDuration)
		lock, err := lease(config, opts.Name+".kaito.sh", s.leaderElectNamespace, request)
		if err != nil {
			return nil, err
		}
		options.LeaderElectionResourceLockInterface = lock
		options.LeaseDuration, options.RenewDeadline, options.RetryPeriod = &s.leaseDuration, &deadline, &retry
	}
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding /healthz: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", cachesSynced(mgr.GetCache())); err != nil {
		return nil, fmt.Errorf("adding /readyz: %w", err)
	}
	return mgr, nil
}

// release is set by the linker when images are built.
var release string

// Version is the release, the module's version, or the commit that the binary was built from.
func Version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return "devel"
}
