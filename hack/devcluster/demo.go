// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"kaito.sh/e2e/stack"
)

const (
	// readyWithin bounds the way to Ready. On two idle cores it takes about half a minute.
	readyWithin = 5 * time.Minute
	// goneWithin bounds the way back.
	goneWithin = 3 * time.Minute
)

// demo is the main job.
type demo struct {
	root, where     string
	nodeIP, kindest string
	keep            bool
	out             io.Writer
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.root, err = filepath.Abs(d.root); err != nil {
		return fmt.Errorf("finding the repository: %w", err)
	}
	switch d.where {
	case "embedded":
		return d.on(ctx, nil)
	case "existing":
		return d.on(ctx, &stack.Existing{NodeIP: d.nodeIP})
	case "kind":
		return d.onKind(ctx)
	}
	return fmt.Errorf("--cluster is %q; allowed: embedded, kind, existing", d.where)
}

// on shows the main job on a cluster, nil meaning one of the demo's own.
func (d *demo) on(ctx context.Context, existing *stack.Existing) (err error) {
	d.title("What is real here, and what is not")
	if existing == nil {
		d.line(
			"real:       etcd, kube-apiserver, kube-controller-manager, kube-scheduler; the three operators, each with a token of its own",
		)
	} else {
		d.line("real:       the cluster; the three operators (processes on this machine), each with a token of its own")
	}
	d.line(
		"            service account and the RBAC of its config/; the Azure SDK; TLS; the fetching of data and model, the OCI registry and the push",
	)
	d.line("            to it, by the runner itself; the gateway")
	d.line(
		"simulated:  Azure (a server that speaks its protocol), the model hub (the same, with tiny files), the nodes with their GPUs and the",
	)
	d.line(
		"            pods on them (KWOK), training (a program that keeps the trainer's contract), and the engine behind the gateway (it",
	)
	d.line("            answers without a model)")
	if existing == nil {
		d.title("Starting everything on loopback, in a temporary folder")
	} else {
		d.title("Installing into the cluster; all of it is removed at the end")
	}
	started := time.Now()
	s, err := stack.Start(
		ctx,
		stack.Options{Root: d.root, Existing: existing, ServedModels: []string{workspaceName, pageName}, Log: indent{d.out}},
	)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	d.line("up after %.1f s; KUBECONFIG=%s", time.Since(started).Seconds(), s.Cluster.Kubeconfig())

	job := &job{
		demo:       d,
		client:     s.Client,
		kubeconfig: s.Cluster.Kubeconfig(),
		registry:   s.RegistryHost(),
		health:     s.Health,
	}
	if existing != nil {
		job.gateway = s.Gateway()
	}
	if err := job.serve(ctx); err != nil {
		return errors.Join(err, d.logs(s))
	}
	if d.keep {
		d.title("Left running until Ctrl-C (KEEP=1)")
		d.line("export KUBECONFIG=%s", s.Cluster.Kubeconfig())
		d.line("kubectl get workspaces,machines,nodeclaims,nodes,tuningjobs,jobs,deployments,services")
		d.line("docs/quickstart-inference.md continues from here")
		<-ctx.Done()
		return ctx.Err()
	}
	return job.release(ctx, func(ctx context.Context) ([]string, error) { return s.Left(ctx) })
}

// logs adds the end of each operator's log to a failure.
func (d *demo) logs(s *stack.Stack) error {
	var errs []error
	for _, o := range stack.Operators {
		errs = append(errs, fmt.Errorf("--- %s\n%s", o, s.OperatorLog(o)))
	}
	return errors.Join(errs...)
}

func (d *demo) title(text string) { _, _ = fmt.Fprintf(d.out, "\n== %s\n", text) }

func (d *demo) line(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "   "+format+"\n", args...)
}

// indent puts what is written below a title.
type indent struct{ w io.Writer }

func (i indent) Write(p []byte) (int, error) {
	if _, err := fmt.Fprintf(i.w, "   %s", p); err != nil {
		return 0, err
	}
	return len(p), nil
}
