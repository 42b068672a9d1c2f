// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/fakeazure"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/process"
)

// Options of a stack.
type Options struct {
	// Root is the repository's root; bin/ below it holds the binaries (`make binaries controlplane tools`).
	Root string
	// Existing names a cluster to use in place of one of its own, which comes and goes with the stack. Simulated nodes
	// join it, and what is installed in it is removed at the end.
	Existing *Existing
	// Operators that are installed and run; nil means all three.
	Operators []Operator
	// WithoutKarpenterCRDs leaves out NodeClaim and NodePool.
	WithoutKarpenterCRDs bool
	// Args are added to an operator's arguments.
	Args map[Operator][]string
	// ServedModels are the names that the one simulated engine serves, those of Workspaces; the first is whose /chat is.
	ServedModels []string
	// Play decides how the pods of jobs fare; nil means TrainAndPush.
	Play Play
	// Azure changes how the fake Azure is set up.
	Azure func(*fakeazure.Options)
	// Log gets a line for each step of the start, and what goes wrong in the simulation. Nil means none.
	Log io.Writer
}

// Stack is a running stack.
type Stack struct {
	// Cluster is the real control plane.
	Cluster *cluster.Cluster
	// Client has every right, and no cache.
	Client client.WithWatch
	// Azure is the fake cloud.
	Azure *fakeazure.Server
	// Metrics are the addresses of the operators' /metrics.
	Metrics map[Operator]string

	options     Options
	dir         string
	launcher    *process.Launcher
	outside     *outside
	cloud       *cloud
	gateway     *gateway
	azureConfig string
	installed   map[Operator]manifests
	operators   map[Operator]running
	played      map[types.UID]bool
	restarts    []restart           // of the API server
	users       map[string]Operator // who the operators were, as the audit log names them
	// claimed is what was installed in an existing cluster, in that order; before is what there was without the stack.
	claimed    []*unstructured.Unstructured
	before     map[types.UID]bool
	background sync.WaitGroup
	cancel     context.CancelFunc
}

// Start brings everything up. When it fails, or when ctx ends before it returns, what was started is ended.
func Start(ctx context.Context, options Options) (_ *Stack, err error) {
	if options.Operators == nil {
		options.Operators = Operators
	}
	if options.Log == nil {
		options.Log = io.Discard
	}
	dir, err := os.MkdirTemp("", "kaito-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for everything: %w", err)
	}
	s := &Stack{
		options:   options,
		dir:       dir,
		Metrics:   map[Operator]string{},
		installed: map[Operator]manifests{},
		operators: map[Operator]running{},
		played:    map[types.UID]bool{},
		users:     map[string]Operator{},
		before:    map[types.UID]bool{},
	}
	if options.Play == nil {
		s.options.Play = s.TrainAndPush
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	if s.launcher, err = process.NewLauncher(dir); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{
		s.startOutside, s.startEngine, s.startCluster, s.startAzure, s.installAll, s.runAll, s.rememberWhatIsThere,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.playJobs(background)
}

func (s *Stack) startOutside(ctx context.Context) (err error) {
	dir := filepath.Join(s.dir, "outside")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder for certificates: %w", err)
	}
	s.outside, err = startOutside(ctx, dir)
	return err
}

func (s *Stack) startCluster(ctx context.Context) (err error) {
	if s.options.Existing != nil {
		err = s.attach(ctx)
	} else {
		s.say("starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK")
		s.Cluster, err = cluster.Start(ctx, cluster.Options{
			ControllerManager: true, Scheduler: true, KWOK: true, Dir: s.clusterDir(), KWOKConfig: s.kwokConfig(),
		})
	}
	if err != nil {
		return fmt.Errorf("starting the control plane: %w", err)
	}
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	if s.Client, err = client.NewWithWatch(s.Cluster.Config(), client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return nil
}

func (s *Stack) clusterDir() string { return filepath.Join(s.dir, "cluster") }

func (s *Stack) kwokConfig() cluster.KWOKConfig {
	return cluster.KWOKConfig{Jobs: held, Forwards: []cluster.Forward{{Port: gatewayPort, Target: s.gateway.address}}}
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, kaitov1alpha1.AddToScheme, karpenterv1alpha5.AddToScheme,
		nodeclassv1alpha1.AddToScheme, tuningv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("making a scheme: %w", err)
		}
	}
	return scheme, nil
}

func (s *Stack) installAll(ctx context.Context) error {
	if !s.options.WithoutKarpenterCRDs {
		if err := s.InstallKarpenterCRDs(ctx); err != nil {
			return err
		}
	}
	for _, o := range s.options.Operators {
		s.say("installing %s: kustomize build %s/config/default", o, o)
		if err := s.Install(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// InstallKarpenterCRDs installs NodeClaim and NodePool.
func (s *Stack) InstallKarpenterCRDs(ctx context.Context) error {
	if _, err := s.applyFolder(ctx, "gpu-provisioner/config/karpenter-crds"); err != nil {
		return fmt.Errorf("installing Karpenter's CRDs: %w", err)
	}
	return nil
}

func (s *Stack) runAll(ctx context.Context) error {
	for _, o := range s.options.Operators {
		s.say("running %s as %s", o, o.User())
		if err := s.Run(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// Dir is the folder that holds everything; logs/NAME.log of each process among it.
func (s *Stack) Dir() string { return s.dir }

// RegistryHost is host:port of the OCI registry.
func (s *Stack) RegistryHost() string { return s.outside.registry.Address() }

// Stop ends what Start started, in the opposite order, and removes the folder.
func (s *Stack) Stop() error {
	ctx := context.Background() // who stops the stack has no other context left
	errs := []error{s.drain(ctx)}
	if s.cancel != nil {
		s.cancel()
	}
	var processes []*process.Process
	for _, r := range s.operators {
		processes = append(processes, r.Process)
	}
	errs = append(errs, process.StopAll(processes...))
	if s.gateway != nil {
		errs = append(errs, s.gateway.stop())
	}
	s.background.Wait()
	if s.cloud != nil {
		errs = append(errs, s.cloud.stop())
	}
	errs = append(errs, s.rights(), s.uninstall(ctx))
	if s.Cluster != nil {
		errs = append(errs, s.Cluster.Stop())
	}
	if s.outside != nil {
		errs = append(errs, s.outside.stop())
	}
	if s.launcher != nil {
		s.launcher.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func (s *Stack) say(format string, args ...any) {
	// A closed terminal is not an error.
	_, _ = fmt.Fprintf(s.options.Log, format+"\n", args...)
}
