// SPDX-License-Identifier: Apache-2.0

package ranks

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const sigterm = syscall.SIGTERM

// process is the engine. It leads a process group, so that its workers can be ended with it.
type process struct {
	cmd *exec.Cmd
	// ended is closed when the engine has ended and was waited for.
	ended chan struct{}
}

func start(command []string) (*process, error) {
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // the container's own command
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the engine cannot be started: %w", err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // exitCode has what it says
		close(p.ended)
	}()
	return p, nil
}

// signal sends a signal to the engine alone, as the kubelet would.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

// kill ends what is left of the process group.
func (p *process) kill() {
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.signal(syscall.SIGKILL)
	}
}

// end has the engine end, and kills it and its workers after the timeout.
func (p *process) end(timeout time.Duration) {
	p.signal(sigterm)
	select {
	case <-p.ended:
	case <-time.After(timeout):
	}
	p.kill()
	<-p.ended
}

// exitCode is the engine's own, or 128 and the number of the signal that ended it.
func (p *process) exitCode() int {
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}
