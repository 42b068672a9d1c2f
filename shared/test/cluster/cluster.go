// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"kaito.sh/shared/test/process"
)

// Options select the components of a cluster. The zero value is etcd and an API server.
type Options struct {
	// ControllerManager adds kube-controller-manager with its default controllers. Without it no service accounts are
	// created, so that the admission plugin for them is disabled, as in envtest.
	ControllerManager bool
	// Scheduler adds kube-scheduler.
	Scheduler bool
	// KWOK adds kwok, which keeps nodes with SimulatedNodeAnnotation Ready and simulates their pods.
	KWOK       bool
	KWOKConfig KWOKConfig

	// CRDPaths are files or folders of CustomResourceDefinitions to install. CRDs are definitions in memory.
	CRDPaths []string
	CRDs     []*apiextensionsv1.CustomResourceDefinition

	// APIServerArgs, ControllerManagerArgs and SchedulerArgs are appended to the arguments, for example "--v=4". The last
	// one has priority.
	APIServerArgs         []string
	ControllerManagerArgs []string
	SchedulerArgs         []string
	// OwnSettings leaves the components their own settings of garbage collection and fairness, as a benchmark needs. Tests
	// use settings that take less CPU time.
	OwnSettings bool

	// Dir holds data, logs, certificates and kubeconfigs. Empty: a temporary folder that Stop deletes. A named folder is
	// kept, and the files of an earlier cluster in it are replaced.
	Dir string
	// Log receives a line for each step, with the seconds since the start. It may be nil.
	Log io.Writer
}

// startLimit is the time in which a component must be ready. Three seconds are usual, but a machine that is busy with
// builds needs ten times as long.
const startLimit = 90 * time.Second

// Cluster is a running control plane.
type Cluster struct {
	options  Options
	binaries binaries
	dir      *directory
	server   string // host:port of the API server
	ca       *authority
	admin    *rest.Config
	kwokPort int
	started  time.Time

	launcher *process.Launcher
	// layers are the processes. Each layer needs the ones before it.
	layers    [][]*process.Process
	apiServer *apiServer

	stopOnce  sync.Once
	stopError error
	stopped   chan struct{}
}

// Start starts a cluster and returns when it serves, and with a controller manager when the default service account
// exists. If it fails, or when the context ends, all started processes are stopped.
//
// A MissingBinariesError names the binaries that `make controlplane` installs.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	found, err := findBinaries(options.components()...)
	if err != nil {
		return nil, err
	}
	var c *Cluster
	err = process.RetryPortTaken(ctx, func() (err error) {
		c, err = start(ctx, options, found)
		return err
	})
	return c, err
}

func (o Options) components() []string {
	names := []string{"etcd", "kube-apiserver"}
	if o.ControllerManager {
		names = append(names, "kube-controller-manager")
	}
	if o.Scheduler {
		names = append(names, "kube-scheduler")
	}
	if o.KWOK {
		names = append(names, "kwok")
	}
	return names
}

func start(ctx context.Context, options Options, found binaries) (_ *Cluster, err error) {
	c := &Cluster{options: options, binaries: found, started: time.Now(), stopped: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if c.dir, err = openDirectory(options.Dir); err != nil {
		return nil, err
	}
	if c.launcher, err = process.NewLauncher(c.dir.path); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"certificates", c.writeCertificates},
		{"etcd and kube-apiserver", c.startServers},
		{"custom resource definitions", c.installCRDs},
		{"controllers", c.startControllers},
	} {
		if err := step.do(limited); err != nil {
			return nil, fmt.Errorf("starting a cluster: %s: %w", step.name, err)
		}
		c.say(step.name)
	}
	context.AfterFunc(ctx, func() { _ = c.Stop() }) // Stop's own caller gets the error too
	return c, nil
}

func (c *Cluster) installCRDs(context.Context) error {
	if len(c.options.CRDPaths) == 0 && len(c.options.CRDs) == 0 {
		return nil
	}
	_, err := envtest.InstallCRDs(c.admin, envtest.CRDInstallOptions{
		Paths:              c.options.CRDPaths,
		CRDs:               c.options.CRDs,
		ErrorIfPathMissing: true,
	})
	return err
}

// Stop stops all processes and deletes the temporary folder. The error names components that had ended before. A second
// call waits for the first one and returns the same error.
func (c *Cluster) Stop() error {
	c.stopOnce.Do(func() {
		defer close(c.stopped)
		var failures []error
		for _, layer := range c.layers {
			for _, p := range layer {
				failures = append(failures, p.Died())
			}
		}
		for i := len(c.layers) - 1; i >= 0; i-- {
			failures = append(failures, process.StopAll(c.layers[i]...))
		}
		if c.launcher != nil {
			c.launcher.Close()
		}
		if c.dir != nil {
			failures = append(failures, c.dir.close())
		}
		c.stopError = errors.Join(failures...)
	})
	<-c.stopped
	return c.stopError
}

// Config returns the config of the administrator: all rights, and no client-side rate limit.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.admin) }

// Kubeconfig returns the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.file("admin.kubeconfig") }

// AuditLog returns the path of the audit log with one JSON event a line. Package audit reads it.
func (c *Cluster) AuditLog() string { return c.file("logs/audit.log") }

// Dir returns the folder of the cluster. It has logs/NAME.log of each component.
func (c *Cluster) Dir() string { return c.dir.path }

// Stopped returns a channel that is closed when the cluster has stopped for any reason.
func (c *Cluster) Stopped() <-chan struct{} { return c.stopped }

func (c *Cluster) file(name string) string { return filepath.Join(c.dir.path, name) }

func (c *Cluster) say(step string) {
	if c.options.Log != nil {
		// Errors of the log do not matter.
		_, _ = fmt.Fprintf(c.options.Log, "[%5.1fs] cluster: %s\n", time.Since(c.started).Seconds(), step)
	}
}
