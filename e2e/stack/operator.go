// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
)

// Operator is one of the three, by its folder.
type Operator string

// The three operators.
const (
	WorkspaceOperator Operator = "workspace-operator"
	GPUProvisioner    Operator = "gpu-provisioner"
	TuningOperator    Operator = "tuning-operator"
)

// Operators are all three, in the order in which they are installed.
var Operators = []Operator{WorkspaceOperator, GPUProvisioner, TuningOperator}

// Namespace is where the operator's kustomization puts it.
func (o Operator) Namespace() string { return string(o) + "-system" }

// ServiceAccount is the name of the operator's own.
func (o Operator) ServiceAccount() string { return string(o) + "-controller-manager" }

// User is how the operator's requests are named in the audit log.
func (o Operator) User() string {
	return user(o.Namespace(), o.ServiceAccount())
}

func user(namespace, account string) string {
	return "system:serviceaccount:" + namespace + ":" + account
}

type running struct {
	*process.Process
	probes string
}

// Install applies the operator's config/default as a user would, Deployment apart: the operator runs as a process here.
func (s *Stack) Install(ctx context.Context, o Operator) error {
	return s.InstallFrom(ctx, o, filepath.Join(string(o), "config", "default"))
}

// Run starts the operator's binary with a token of its own service account and the arguments of its Deployment, and
// waits until it says that it is ready.
func (s *Stack) Run(ctx context.Context, o Operator) error {
	m, ok := s.installed[o]
	if !ok {
		return fmt.Errorf("%s is not installed", o)
	}
	container, err := m.container()
	if err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	namespace, account := m.account()
	s.users[user(namespace, account)] = o
	kubeconfig, err := s.Cluster.ServiceAccountKubeconfig(ctx, namespace, account)
	if err != nil {
		return fmt.Errorf("getting a token for %s: %w", o, err)
	}
	var args []string
	for _, arg := range container.Args {
		args = append(args, strings.ReplaceAll(arg, "$(POD_NAMESPACE)", namespace)) // as a kubelet does
	}
	args = append(args, "--kubeconfig="+kubeconfig, "--leader-election-namespace="+namespace)
	args = append(args, s.ownArguments(o)...)
	spec := process.Spec{Name: string(o), Binary: s.binary(string(o)), Env: []string{"POD_NAMESPACE=" + namespace}}
	return process.RetryPortTaken(ctx, func() error {
		addresses, err := process.FreeAddresses(2)
		if err != nil {
			return err
		}
		probes, metrics := addresses[0], addresses[1]
		// A repeated flag's last value counts.
		spec.Args = append(slices.Clone(args), "--health-probe-bind-address="+probes, "--metrics-bind-address="+metrics)
		started, err := s.launcher.Start(spec)
		if err != nil {
			return err
		}
		s.operators[o] = running{Process: started, probes: probes}
		s.Metrics[o] = metrics
		return s.ready(ctx, o)
	})
}

// ownArguments are those that differ here from the operator's Deployment.
func (s *Stack) ownArguments(o Operator) []string {
	// A machine that is busy with builds must not end an operator.
	args := []string{"--leader-election-lease-duration=45s"}
	if o == TuningOperator {
		args = append(args, "--allow-private-sources") // the hub and the registry are on loopback
	}
	if o == TuningOperator && s.options.Existing != nil {
		// A cluster's own provisioner would wait for pods that do not run, or create a disk that costs money.
		args = append(args, "--checkpoint-storage-class=none")
	}
	if o == GPUProvisioner {
		args = append(args, "--azure-config="+s.azureConfig)
	}
	return append(args, s.options.Args[o]...)
}

func (s *Stack) ready(ctx context.Context, o Operator) error {
	r := s.operators[o]
	err := wait.PollUntilContextTimeout(
		ctx,
		eventually.StoryTick,
		eventually.Long,
		true,
		func(ctx context.Context) (bool, error) {
			if err := r.Died(); err != nil {
				return false, err
			}
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.probes+"/readyz", nil)
			if err != nil {
				return false, err
			}
			response, err := (&http.Client{Timeout: time.Second}).Do(request)
			if err != nil {
				return false, nil //nolint:nilerr // not listening yet
			}
			_ = response.Body.Close()
			return response.StatusCode == http.StatusOK, nil
		},
	)
	if err != nil {
		return fmt.Errorf("waiting for %s to be ready: %w\n%s", o, err, r.Tail())
	}
	return nil
}

// StopOperator ends the operator as a rollout would.
func (s *Stack) StopOperator(o Operator) error {
	if r, ok := s.operators[o]; ok {
		delete(s.operators, o)
		return r.Stop()
	}
	return nil
}

// KillOperator ends the operator as a crash would.
func (s *Stack) KillOperator(o Operator) error {
	if r, ok := s.operators[o]; ok {
		delete(s.operators, o)
		return r.Kill()
	}
	return nil
}

// Health returns an error for each operator that exited unexpectedly.
func (s *Stack) Health() error {
	for o, r := range s.operators {
		if err := r.Died(); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	return nil
}

// OperatorLog is the end of an operator's log, for a failed test.
func (s *Stack) OperatorLog(o Operator) string {
	r, ok := s.operators[o]
	if !ok {
		return string(o) + " does not run"
	}
	return strings.TrimSpace(r.Tail())
}

func (s *Stack) binary(name string) string { return filepath.Join(s.options.Root, "bin", name) }
