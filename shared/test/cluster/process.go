package cluster

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

// errPortTaken: between looking for a free port and a process taking it, somebody else took it.
var errPortTaken = errors.New("a port was taken by another process")

// process is one component, running.
type process struct {
	name    string
	command *exec.Cmd
	log     string
	// ended is closed once the process has ended and failure is set.
	ended   chan struct{}
	failure error
}

// launcher starts processes from one thread that lives until close: the kernel's "end with the parent" means the
// thread that started a child, and Go may end any other thread.
type launcher struct {
	starts chan func()
}

func newLauncher() *launcher {
	l := &launcher{starts: make(chan func())}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for start := range l.starts {
			start()
		}
	}()
	return l
}

func (l *launcher) close() { close(l.starts) }

// start runs the binary with its output in logs/NAME.log of the folder.
func (l *launcher) start(folder, name, binary string, arguments ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(folder, "logs", name+".log"), ended: make(chan struct{})}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer func() { _ = output.Close() }() // the child has its own copy

	p.command = exec.Command(binary, arguments...)
	p.command.Dir = folder
	p.command.Stdout, p.command.Stderr = output, output
	p.command.SysProcAttr = childAttributes()
	// HOME keeps a person's own ~/.kwok and ~/.kube out of it, and what components drop there inside the folder.
	p.command.Env = append(os.Environ(), "HOME="+folder, "TMPDIR="+folder, "KUBECONFIG=")

	started := make(chan error)
	l.starts <- func() { started <- p.command.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		err := p.command.Wait()
		p.failure = fmt.Errorf("%s ended unexpectedly (%s); its last log lines, from %s:\n%s", name, exitText(err), p.log, p.tail())
		if p.logged("address already in use") {
			p.failure = errors.Join(errPortTaken, p.failure)
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

// stop asks the process to end, and after a grace makes it. It returns once the process is gone.
func (p *process) stop() error {
	if p.died() != nil {
		return nil // its number may belong to somebody else by now
	}
	// Errors of kill mean that the group is gone already, which is what is wanted.
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGTERM)
	if p.wait(stopGrace) {
		return nil
	}
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
	if p.wait(killGrace) {
		return nil
	}
	return fmt.Errorf("%s (process %d) did not end %s after SIGKILL", p.name, p.command.Process.Pid, killGrace)
}

func (p *process) wait(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
		return true
	case <-timer.C:
		return false
	}
}

// died returns why the process ended, or nil while it runs.
func (p *process) died() error {
	select {
	case <-p.ended:
		return p.failure
	default:
		return nil
	}
}

// tail is the end of the process's log, for an error message.
func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-logTail):], "\n")
}

func (p *process) logged(text string) bool {
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
