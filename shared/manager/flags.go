// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"flag"
	"fmt"
	"io"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// settings are the values of the flags of all operators.
type settings struct {
	metricsAddress       string
	metricsSecure        bool
	probeAddress         string
	leaderElect          bool
	leaderElectNamespace string
	leaseDuration        time.Duration
	qps                  float64
	burst                int
	watchNamespace       string
	version              bool
	zap                  zap.Options
}

func parse(opts Options, args []string, out io.Writer) (settings, error) {
	var s settings
	fs := flag.NewFlagSet(opts.Name, flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		_, _ = fmt.Fprintf(out, "%s\n\nUsage:\n  %s [flags]\n\nFlags:\n", opts.Short, opts.Name)
		fs.PrintDefaults()
	}
	fs.StringVar(&s.metricsAddress, "metrics-bind-address", ":8443", "address of /metrics; 0: not served")
	fs.BoolVar(
		&s.metricsSecure, "metrics-secure", true,
		"TLS and authorization for /metrics (TokenReview, SubjectAccessReview)",
	)
	fs.StringVar(&s.probeAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	fs.BoolVar(
		&s.leaderElect, "leader-elect", true, "leader election: only the replica that holds the lease reconciles",
	)
	fs.StringVar(&s.leaderElectNamespace, "leader-election-namespace", "", "namespace of the lease; empty: that of the pod")
	fs.DurationVar(&s.leaseDuration, "leader-election-lease-duration", 15*time.Second,
		"duration of the lease, after which another replica takes over; a leader that cannot renew it for two thirds of the duration exits")
	fs.Float64Var(&s.qps, "kube-api-qps", 200, "average number of requests per second to the API server")
	fs.IntVar(&s.burst, "kube-api-burst", 400, "largest number of requests to the API server in a burst")
	if opts.Namespaced {
		fs.StringVar(
			&s.watchNamespace, "watch-namespace", "",
			"only namespace whose objects are reconciled, for which a Role is sufficient; empty: all namespaces",
		)
	}
	fs.BoolVar(&s.version, "version", false, "print the version and exit")
	config.RegisterFlags(fs)
	s.zap.BindFlags(fs)
	if opts.Flags != nil {
		opts.Flags(fs)
	}
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if s.leaseDuration < minLease {
		err := fmt.Errorf(
			"--leader-election-lease-duration: invalid value %s: it must be at least %s, because one slow request takes that long",
			s.leaseDuration, minLease,
		)
		_, _ = fmt.Fprintf(out, "%s: %v\n", opts.Name, err)
		return s, err
	}
	if fs.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q: use flags only, see --help", fs.Arg(0))
		_, _ = fmt.Fprintf(out, "%s: %v\n", opts.Name, err)
		return s, err
	}
	return s, nil
}
