// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
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
	// stopGrace is the time that a process has to end after SIGTERM. It is short, because an API server with open watches
	// would wait for a minute.
	stopGrace = 5 * time.Second
	// killGrace is the time that the kernel has to end a killed process.
	killGrace = 5 * time.Second
	// logTail is the number of log lines in the error of a failed process.
	logTail = 15
)

// ErrPortTaken says that another process took a port between its choice and its use.
var ErrPortTaken = errors.New("a port was taken by another process")

// Spec describes a process.
type Spec struct {
	// Name is the name of the process and its log file.
	Name string
	// Binary is the file of the program, and Args are its arguments.
	Binary string
	Args   []string
	// Env is added to the environment of the parent.
	Env []string
}

// Process is a started process.
type Process struct {
	spec    Spec
	command *exec.Cmd
	log     string
	// from is the size of the log, in bytes, when the process started: what is before was written by an earlier run.
	from int64
	// ended is closed when the process has ended and failure is set.
	ended   chan struct{}
	failure error
}

// Launcher starts processes from one thread that lives until Close. The kernel ends a child with the thread that
// started it, and Go may end any other thread.
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

// Close ends the launcher's thread, and with it, on Linux, all running processes.
func (l *Launcher) Close() { l.once.Do(func() { close(l.starts) }) }

// Start starts a process with its output in logs/NAME.log of the folder, appended to the log of an earlier run.
func (l *Launcher) Start(spec Spec) (*Process, error) {
	p := &Process{spec: spec, log: filepath.Join(l.folder, "logs", spec.Name+".log"), ended: make(chan struct{})}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}
	defer func() { _ = output.Close() }() // the child has a copy
	if p.from, err = output.Seek(0, io.SeekEnd); err != nil {
		return nil, fmt.Errorf("measuring the log of %s: %w", spec.Name, err)
	}

	p.command = exec.Command(spec.Binary, spec.Args...)
	p.command.Dir = l.folder
	p.command.Stdout, p.command.Stderr = output, output
	p.command.SysProcAttr = childAttributes()
	// With this HOME components do not read the user's ~/.kwok and ~/.kube, and write only to the folder.
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

// Stop sends SIGTERM, and SIGKILL after stopGrace. It returns when the process has ended.
func (p *Process) Stop() error {
	if p.Died() != nil {
		return nil // another process may have its PID now
	}
	// An error of kill means that the group has already ended.
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGTERM)
	if p.wait(stopGrace) {
		return nil
	}
	return p.Kill()
}

// Kill sends SIGKILL and returns when the process has ended.
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

// Ended returns a channel that is closed when the process has ended for any reason.
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

// Spec returns the Spec of the process.
func (p *Process) Spec() Spec { return p.spec }

// Name returns the name in the Spec.
func (p *Process) Name() string { return p.spec.Name }

// PID returns the process ID.
func (p *Process) PID() int { return p.command.Process.Pid }

// Log returns the path of the log.
func (p *Process) Log() string { return p.log }

// Tail returns the end of the log for an error message.
func (p *Process) Tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-logTail):], "\n")
}

// Logged returns whether the process wrote a text to its log.
func (p *Process) Logged(text string) bool {
	content, err := os.Open(p.log)
	if err != nil {
		return false
	}
	defer func() { _ = content.Close() }()
	if _, err := content.Seek(p.from, io.SeekStart); err != nil {
		return false
	}
	scanner := bufio.NewScanner(content)
	scanner.Buffer(nil, 1<<20) // the API server prints its flags in one long line
	for scanner.Scan() {
		if bytes.Contains(scanner.Bytes(), []byte(text)) {
			return true
		}
	}
	return false
}

// StopAll stops processes concurrently and returns when all have ended.
func StopAll(processes ...*Process) error {
	errs := make([]error, len(processes))
	var group sync.WaitGroup
	for i, p := range processes {
		group.Go(func() { errs[i] = p.Stop() })
	}
	group.Wait()
	return errors.Join(errs...)
}
