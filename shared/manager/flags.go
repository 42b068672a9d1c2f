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

// settings are the values of the flags that all operators have.
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
	fs.StringVar(&s.metricsAddress, "metrics-bind-address", ":8443", "address of /metrics; 0 turns it off")
	fs.BoolVar(
		&s.metricsSecure, "metrics-secure", true,
		"serve /metrics over TLS and only to who may get it (TokenReview, SubjectAccessReview)",
	)
	fs.StringVar(&s.probeAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	fs.BoolVar(
		&s.leaderElect, "leader-elect", true, "work only while holding the lease, so that two replicas never act at once",
	)
	fs.StringVar(&s.leaderElectNamespace, "leader-election-namespace", "", "namespace of the lease; empty: the pod's own")
	fs.DurationVar(&s.leaseDuration, "leader-election-lease-duration", 15*time.Second,
		"how long a replica that died holds the others up; one that can not renew the lease for two thirds of it ends itself")
	fs.Float64Var(&s.qps, "kube-api-qps", 200, "requests per second to the API server, on average")
	fs.IntVar(&s.burst, "kube-api-burst", 400, "requests to the API server at once")
	if opts.Namespaced {
		fs.StringVar(
			&s.watchNamespace, "watch-namespace", "",
			"the one namespace whose objects are looked at, for which a Role is enough; empty: all",
		)
	}
	fs.BoolVar(&s.version, "version", false, "print the version and end")
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
			"--leader-election-lease-duration is %s: it must be at least %s, for less is lost to one slow request",
			s.leaseDuration, minLease,
		)
		_, _ = fmt.Fprintf(out, "%s: %v\n", opts.Name, err)
		return s, err
	}
	if fs.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q: all settings are flags, see --help", fs.Arg(0))
		_, _ = fmt.Fprintf(out, "%s: %v\n", opts.Name, err)
		return s, err
	}
	return s, nil
}
