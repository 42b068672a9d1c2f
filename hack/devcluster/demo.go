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
	root, where string
	keep        bool
	out         io.Writer
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.root, err = filepath.Abs(d.root); err != nil {
		return fmt.Errorf("finding the repository: %w", err)
	}
	if d.where != "embedded" {
		return fmt.Errorf("--cluster is %q; allowed: embedded (kind and existing clusters are not supported yet)", d.where)
	}
	return d.embedded(ctx)
}

func (d *demo) embedded(ctx context.Context) (err error) {
	d.title("What is real here, and what is not")
	d.line("real:       etcd, kube-apiserver, kube-controller-manager, kube-scheduler; the three operators, each with a token of its own")
	d.line("            service account and the RBAC of its config/; the Azure SDK; TLS; the OCI registry and the push to it; the gateway")
	d.line("simulated:  Azure (a server that speaks its protocol), the nodes with their GPUs and the pods on them (KWOK), training,")
	d.line("            and the engine behind the gateway (it answers without a model)")
	d.title("Starting everything on loopback, in a temporary folder")
	started := time.Now()
	s, err := stack.Start(ctx, stack.Options{Root: d.root, ServedModel: workspaceName, Log: indent{d.out}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	d.line("up after %.1f s; KUBECONFIG=%s", time.Since(started).Seconds(), s.Cluster.Kubeconfig())

	job := &job{demo: d, client: s.Client, kubeconfig: s.Cluster.Kubeconfig(), registry: s.RegistryHost(), health: s.Health}
	if err := job.serve(ctx); err != nil {
		return errors.Join(err, d.logs(s))
	}
	if d.keep {
		d.title("Left running until Ctrl-C (KEEP=1)")
		d.line("export KUBECONFIG=%s", s.Cluster.Kubeconfig())
		d.line("kubectl get workspaces,machines,nodeclaims,nodes,tuningjobs,jobs,deployments,services")
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
