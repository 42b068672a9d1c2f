// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"kaito.sh/shared/test/process"
)

// Server is a serving pod's engine and gateway as processes of this machine, with the pod's own arguments and adapters.
type Server struct {
	// Address of the gateway, host:port.
	Address string

	processes []*process.Process
	folder    string
}

// Serve runs a serving pod for real: init containers to their end, then its engine (simulated) and its gateway, and
// waits until the gateway is ready.
func (s *Stack) Serve(ctx context.Context, pod *corev1.Pod) (*Server, error) {
	var server *Server
	err := process.RetryPortTaken(ctx, func() (err error) {
		server, err = s.serve(ctx, pod)
		return err
	})
	return server, err
}

func (s *Stack) serve(ctx context.Context, pod *corev1.Pod) (_ *Server, err error) {
	folder, err := os.MkdirTemp(s.dir, "server-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the pod: %w", err)
	}
	server := &Server{folder: folder}
	defer func() {
		if err != nil {
			err = errors.Join(err, server.Stop())
		}
	}()
	local := &localPod{stack: s, pod: pod, folder: folder}
	for _, c := range pod.Spec.InitContainers {
		c.Args = append(c.Args, "--allow-private") // the registry is on loopback
		if outcome, err := local.container(ctx, c); err != nil || outcome.ExitCode != 0 {
			return nil, errors.Join(err, fmt.Errorf("container %s ended with %d: %s", c.Name, outcome.ExitCode, outcome.Message))
		}
	}
	addresses, err := process.FreeAddresses(3)
	if err != nil {
		return nil, err
	}
	engine, status := addresses[0], addresses[1]
	server.Address = addresses[2]
	host, port, _ := net.SplitHostPort(engine)
	var front *process.Process
	for _, c := range pod.Spec.Containers {
		args, env, err := local.here(
			ctx,
			c,
			"--host=127.0.0.1",
			"--host="+host,
			"--port=8000",
			"--port="+port,
			"http://127.0.0.1:8000",
			"http://"+engine,
			"--listen=:5000",
			"--listen="+server.Address,
			"--status-listen=:5001",
			"--status-listen="+status,
		)
		if err != nil {
			return nil, err
		}
		if binaryOf(c) == "simengine" {
			args = append(args, releaseOf(c.Image)...)
		}
		started, err := s.launcher.Start(
			process.Spec{Name: pod.Name + "-" + c.Name, Binary: s.binary(binaryOf(c)), Args: args, Env: env},
		)
		if err != nil {
			return nil, err
		}
		server.processes = append(server.processes, started)
		if c.Name == "gateway" {
			front = started
		}
	}
	return server, (&gateway{address: server.Address, status: status, process: front}).ready(ctx)
}

// releaseOf has the simulated engine accept the flags of the release in the tag of its image.
func releaseOf(image string) []string {
	name, _, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], "@")
	if _, tag, tagged := strings.Cut(name, ":v"); tagged {
		return []string{"--sim-release=" + tag}
	}
	return nil
}

// Stop ends the processes.
func (s *Server) Stop() error {
	return errors.Join(process.StopAll(s.processes...), os.RemoveAll(s.folder))
}
