// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"kaito.sh/e2e/simengine"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
)

// gatewayPort is where the gateway listens in a serving pod.
const gatewayPort = 5000

// gateway is the real gateway's binary in front of a simulated engine: what answers for a simulated serving pod.
type gateway struct {
	address string
	status  string // host:port of its probes and metrics
	process *process.Process
	engine  *http.Server
}

// Gateway is host:port of the gateway that answers for every simulated serving pod.
func (s *Stack) Gateway() string { return s.gateway.address }

func (s *Stack) startEngine(ctx context.Context) error {
	models := s.options.ServedModels
	if len(models) == 0 {
		models = []string{"model"}
	}
	engine, err := simengine.New(simengine.Options{ServedNames: models})
	if err != nil {
		return fmt.Errorf("making the simulated engine: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for the simulated engine: %w", err)
	}
	server := &http.Server{Handler: engine, ReadHeaderTimeout: 10 * time.Second}
	s.background.Go(func() { _ = server.Serve(listener) }) // ends with ErrServerClosed when stopped
	s.gateway = &gateway{engine: server}
	return process.RetryPortTaken(ctx, func() error {
		addresses, err := process.FreeAddresses(2)
		if err != nil {
			return err
		}
		s.gateway.address, s.gateway.status = addresses[0], addresses[1]
		s.gateway.process, err = s.launcher.Start(process.Spec{Name: "gateway", Binary: s.binary("gateway"), Args: []string{
			"--listen=" + s.gateway.address,
			"--status-listen=" + s.gateway.status,
			"--engine=http://" + listener.Addr().String(),
			"--model=" + models[0],
		}})
		if err != nil {
			return err
		}
		return s.gateway.ready(ctx)
	})
}

func (g *gateway) ready(ctx context.Context) error {
	serving := func(context.Context) (bool, error) {
		if err := g.process.Died(); err != nil {
			return false, err
		}
		response, err := (&http.Client{Timeout: time.Second}).Get("http://" + g.status + "/readyz")
		if err != nil {
			return false, nil //nolint:nilerr // not listening yet
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	}
	err := wait.PollUntilContextTimeout(ctx, eventually.StoryTick, eventually.Short, true, serving)
	if err != nil {
		return fmt.Errorf("waiting for the gateway: %w\n%s", err, g.process.Tail())
	}
	return nil
}

func (g *gateway) stop() error {
	errs := []error{g.engine.Close()}
	if g.process != nil {
		errs = append(errs, g.process.Stop())
	}
	return errors.Join(errs...)
}
