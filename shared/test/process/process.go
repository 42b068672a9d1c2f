// SPDX-License-Identifier: Apache-2.0

// Package process runs the binaries that tests and demonstrations need, so that none of them outlives who started it:
// each in a process group of its own, ended in order, and on Linux by the kernel when the parent is gone.
package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// stopGrace is how long a process may take to end by itself. Nothing it would still write is wanted; an API server
	// with watches open would otherwise wait for a minute.
	stopGrace = 5 * time.Second
	// killGrace bounds the wait for the kernel to collect a killed process.
	killGrace = 5 * time.Second
	// logTail is how many of a failed process's last log lines an error carries.
	logTail = 15
)

// ErrPortTaken: between looking for a free port and a process taking it, somebody else took it.
var ErrPortTaken = errors.New("a port was taken by another process")

// Spec says what to run.
type Spec struct {
	// Name of the process and of its log file.
	Name string
	// Binary is the file, Args its arguments.
	Binary string
	Args   []string
	// Env is added to the parent's.
	Env []string
}

// Process is a started binary.
type Process struct {
	spec    Spec
	command *exec.Cmd
	log     string
	// ended is closed once the process has ended and failure is set.
	ended   chan struct{}
	failure error
}

// Launcher starts processes from one thread that lives until Close: the kernel's "end with the parent" means the thread
// that started a child, and Go may end any other thread.
type Launcher struct {
	folder string
	starts chan func()
	once   sync.Once
}

// NewLauncher returns a launcher whose processes run in folder and log to folder/logs/NAME.log.
func NewLauncher(folder string) (*Launcher, error) {
	if err := os.MkdirAll(filepath.Join(folder, "logs"), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for logs: %w", err)
	}
	l := &Launcher{folder: folder, starts: make(chan func())}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for start := range l.starts {
			start()
		}
	}()
	return l, nil
}

// Close ends the launcher's thread, and with it, on Linux, every process that still runs.
func (l *Launcher) Close() { l.once.Do(func() { close(l.starts) }) }

// Start runs the binary with its output in logs/NAME.log of the folder. The log of an earlier run is kept in front.
func (l *Launcher) Start(spec Spec) (*Process, error) {
	p := &Process{spec: spec, log: filepath.Join(l.folder, "logs", spec.Name+".log"), ended: make(chan struct{})}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}
	defer func() { _ = output.Close() }() // the child has its own copy

	p.command = exec.Command(spec.Binary, spec.Args...)
	p.command.Dir = l.folder
	p.command.Stdout, p.command.Stderr = output, output
	p.command.SysProcAttr = childAttributes()
	// HOME keeps a person's own ~/.kwok and ~/.kube out of it, and what components drop there inside the folder.
	p.command.Env = append(append(os.Environ(), "HOME="+l.folder, "TMPDIR="+l.folder, "KUBECONFIG="), spec.Env...)

	started := make(chan error)
	l.starts <- func() { started <- p.command.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	go func() {
		err := p.command.Wait()
		p.failure = fmt.Errorf(
			"%s ended unexpectedly (%s); its last log lines, from %s:\n%s", p.spec.Name, exitText(err), p.log, p.Tail(),
		)
		if p.Logged("address already in use") {
			p.failure = errors.Join(ErrPortTaken, p.failure)
		}
		close(p.ended)
	}()
	return p, nil
}

func exitText(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// Stop asks the process to end, and after a grace makes it. It returns once the process is gone.
func (p *Process) Stop() error {
	if p.Died() != nil {
		return nil // its number may belong to somebody else by now
	}
	// Errors of kill mean that the group is gone already, which is what is wanted.
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGTERM)
	if p.wait(stopGrace) {
		return nil
	}
	return p.Kill()
}

// Kill ends the process at once, as a crash or the kernel would, and returns once it is gone.
func (p *Process) Kill() error {
	if p.Died() != nil {
		return nil
	}
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
	if p.wait(killGrace) {
		return nil
	}
	return fmt.Errorf("%s (process %d) did not end %s after SIGKILL", p.spec.Name, p.command.Process.Pid, killGrace)
}

func (p *Process) wait(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
		return true
	case <-timer.C:
		return false
	}
}

// Ended is closed once the process has ended, whoever ended it.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Died returns why the process ended, or nil while it runs.
func (p *Process) Died() error {
	select {
	case <-p.ended:
		return p.failure
	default:
		return nil
	}
}

// Spec is what it was started by.
func (p *Process) Spec() Spec { return p.spec }

// Name is the process's, as its Spec has it.
func (p *Process) Name() string { return p.spec.Name }

// PID is the process's number.
func (p *Process) PID() int { return p.command.Process.Pid }

// Log is the path of the process's log.
func (p *Process) Log() string { return p.log }

// Tail is the end of the process's log, for an error message.
func (p *Process) Tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-logTail):], "\n")
}

// Logged says whether a text is in the process's log.
func (p *Process) Logged(text string) bool {
	content, err := os.Open(p.log)
	if err != nil {
		return false
	}
	defer func() { _ = content.Close() }()
	scanner := bufio.NewScanner(content)
	scanner.Buffer(nil, 1<<20) // the API server prints its flags in one long line
	for scanner.Scan() {
		if bytes.Contains(scanner.Bytes(), []byte(text)) {
			return true
		}
	}
	return false
}

// StopAll stops processes at once and returns when all are gone.
func StopAll(processes ...*Process) error {
	errs := make([]error, len(processes))
	var group sync.WaitGroup
	for i, p := range processes {
		group.Go(func() { errs[i] = p.Stop() })
	}
	group.Wait()
	return errors.Join(errs...)
}
