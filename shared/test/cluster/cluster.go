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

// Options say what a cluster consists of. The zero value is etcd and an API server.
type Options struct {
	// ControllerManager adds kube-controller-manager with its default controllers. Without it nothing makes service
	// accounts, so the admission plugin that asks for them is off, as in envtest.
	ControllerManager bool
	// Scheduler adds kube-scheduler.
	Scheduler bool
	// KWOK adds kwok, which keeps the nodes that carry the annotation of SimulatedNode Ready, and plays their pods.
	KWOK       bool
	KWOKConfig KWOKConfig

	// CRDPaths are files or folders of CustomResourceDefinitions to install, and CRDs are ones in memory.
	CRDPaths []string
	CRDs     []*apiextensionsv1.CustomResourceDefinition

	// APIServerArgs, ControllerManagerArgs and SchedulerArgs are appended to the arguments ("--v=4"); the last wins.
	APIServerArgs         []string
	ControllerManagerArgs []string
	SchedulerArgs         []string

	// Dir holds data, logs, certificates and kubeconfigs. Empty means a temporary folder that Stop removes; a folder
	// that is named is kept, and what an earlier cluster left in it is replaced.
	Dir string
	// Log receives a line for each step, with the seconds since the start. Nil means none.
	Log io.Writer
}

// startLimit bounds a component's way to ready. Three seconds are usual; a machine busy with builds needs ten times
// that.
const startLimit = 90 * time.Second

// startAttempts: free ports are looked for before they are taken, so a start may lose a race and is tried again.
const startAttempts = 3

// Cluster is a running control plane.
type Cluster struct {
	options  Options
	binaries binaries
	dir      *directory
	server   string // the API server's host:port
	ca       *authority
	admin    *rest.Config
	kwokPort int
	started  time.Time

	launcher *process.Launcher
	// layers are the processes, each layer needing the ones before it.
	layers    [][]*process.Process
	apiServer *apiServer

	stopOnce  sync.Once
	stopError error
	stopped   chan struct{}
}

// Start brings up a cluster and returns once it serves: with a controller manager, once the default service account
// exists. When it fails, or when the context ends, everything that was started is ended.
//
// A MissingBinariesError says what `make controlplane` would bring.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	found, err := findBinaries(options.components()...)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		c, err := start(ctx, options, found)
		if err == nil {
			return c, nil
		}
		if attempt == startAttempts || !errors.Is(err, process.ErrPortTaken) || ctx.Err() != nil {
			return nil, err
		}
	}
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

// Stop ends what Start started, removes the temporary folder, and reports a component that had ended before by itself.
// Called again it waits for the first call and answers the same.
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

// Config is the administrator's: every right, and no client-side limit of requests.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.admin) }

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.file("admin.kubeconfig") }

// AuditLog is the path of the API server's audit log, one JSON event a line; package audit reads it.
func (c *Cluster) AuditLog() string { return c.file("logs/audit.log") }

// Dir is the folder that holds everything, logs/NAME.log of each component among it.
func (c *Cluster) Dir() string { return c.dir.path }

// Stopped is closed once the cluster is gone, whoever stopped it.
func (c *Cluster) Stopped() <-chan struct{} { return c.stopped }

func (c *Cluster) file(name string) string { return filepath.Join(c.dir.path, name) }

func (c *Cluster) say(step string) {
	if c.options.Log != nil {
		// A log that cannot be written to is no reason to fail.
		_, _ = fmt.Fprintf(c.options.Log, "[%5.1fs] cluster: %s\n", time.Since(c.started).Seconds(), step)
	}
}
