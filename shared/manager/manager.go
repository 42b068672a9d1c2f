// SPDX-License-Identifier: Apache-2.0

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

// Options describe an operator.
type Options struct {
	// Name is the name of the operator in its lease, its user agent and its logs.
	Name string
	// Short is a line for --help.
	Short string
	// Scheme holds the kinds that the operator reads and writes.
	Scheme *runtime.Scheme
	// Cache limits the watched objects. Managed fields are removed unless it sets a transform.
	Cache cache.Options
	// Namespaced adds --watch-namespace. The operator must be able to run with a single namespace.
	Namespaced bool
	// Client sets the options of the manager's client.
	Client client.Options
	// Flags adds the flags of the operator. They are parsed before Setup is called.
	Flags func(*flag.FlagSet)
	// Setup adds the controllers. It must not block. ctx ends when the process is stopped.
	Setup func(ctx context.Context, mgr ctrl.Manager) error
}

// Main runs the operator until it is stopped. It returns the exit code of the process: 0 for a clean stop or --help, 2
// for invalid flags, and 1 for all other errors.
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
		// One line that says what to do is more useful than a stack trace.
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

// newManager returns the manager that Main starts.
func newManager(config *rest.Config, opts Options, s settings) (ctrl.Manager, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = float32(s.qps), s.burst
	config.UserAgent = opts.Name + "/" + Version()
	if opts.Cache.DefaultTransform == nil {
		opts.Cache.DefaultTransform = cache.TransformStripManagedFields()
	}
	if s.watchNamespace != "" {
		// This does not affect the cache of cluster-scoped kinds.
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

// release is set by the linker in builds of images.
var release string

// Version returns the release, the version of the module, or the commit of the build.
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
