// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/printed"
)

// walk goes through a page as a reader does: block by block, in one shell, in one namespace of one cluster.
type walk struct {
	document document
	report   *report
	// folder stands for a clone of the repository: what is written there is the reader's own.
	folder folder
	// strict refuses what no API has.
	strict client.Client
	// namespace is the reader's, and kubeconfig has it as its context's.
	namespace, kubeconfig string
	// guest is true where other pages use the cluster at the same time.
	guest bool
	// fill puts what is here in the place of what the page can only name by an example.
	fill *strings.Replacer

	shell  *interp.Runner
	output printed.Buffer
	// unrun is why a command of the present statement was not run.
	unrun string
	// until is what ends with the page; cleanup is called then.
	until   context.Context
	cleanup []func()

	mutex    sync.Mutex
	forwards map[string]string
}

// run returns what is wrong with the page. What a page does in one block the next ones build on, so that it ends with
// the first command that fails.
func (w *walk) run(ctx context.Context) []error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for _, end := range w.cleanup {
			end()
		}
	}()
	w.until = ctx
	if err := w.openShell(); err != nil {
		return []error{err}
	}
	var problems []error
	for _, b := range w.document.blocks {
		w.report.block(w.document.path)
		if b.unrun != "" {
			w.report.unrun(w.document.path, b.unrun)
			continue
		}
		err := w.block(ctx, b)
		var wrong problem
		if errors.As(err, &wrong) {
			return append(problems, err)
		}
		if err != nil {
			problems = append(problems, problem{w.document.path, b.line, err.Error()})
		}
	}
	return problems
}

func (w *walk) block(ctx context.Context, b block) error {
	switch b.language {
	case "sh":
		return w.commands(ctx, b)
	case "yaml":
		return w.manifests(ctx, b)
	case "json":
		if !json.Valid([]byte(b.text)) {
			return errors.New("this is not JSON")
		}
		w.report.ran(w.document.path)
	case "text", "mermaid", "jsonc":
		w.report.unrun(w.document.path, "drawing or output")
	case "":
		return errors.New("the fence says no language: sh, yaml, json, jsonc, mermaid, or text for what is neither")
	default:
		return fmt.Errorf("the fence has the unknown language %q", b.language)
	}
	return nil
}

// openShell opens a shell in the folder of the page: that of its module, or the repository's root. An unset variable is
// an error, and so is a failed part of a pipe.
func (w *walk) openShell() (err error) {
	dir := w.folder.root
	for below := filepath.Dir(w.document.path); below != "."; below = filepath.Dir(below) {
		if _, err := os.Stat(filepath.Join(w.folder.root, below, "go.mod")); err == nil {
			dir = filepath.Join(w.folder.root, below)
			break
		}
	}
	env := []string{
		"PATH=" + w.folder.tools + ":" + os.Getenv("PATH"),
		"HOME=" + w.folder.home,
		"KUBECONFIG=" + w.kubeconfig,
		"TERM=dumb",
	}
	w.shell, err = interp.New(
		interp.Params("-u", "-o", "pipefail"), interp.Dir(dir), interp.Env(expand.ListEnviron(env...)),
		interp.StdIO(nil, &w.output, &w.output), interp.ExecHandlers(w.exec),
	)
	return err
}

// commands runs a block statement by statement.
func (w *walk) commands(ctx context.Context, b block) error {
	file, err := syntax.NewParser().Parse(strings.NewReader(w.fill.Replace(b.text)), "")
	if err != nil {
		return fmt.Errorf("the shell does not understand this: %w", err)
	}
	for _, statement := range file.Stmts {
		w.output.Reset()
		w.unrun = ""
		if err := w.statement(ctx, statement); err != nil {
			line := b.line + int(statement.Pos().Line()) - 1
			return problem{
				w.document.path,
				line,
				fmt.Sprintf("%s\n%v\n%s", source(statement), err, strings.TrimSpace(w.output.String())),
			}
		}
		if w.unrun != "" {
			w.report.unrun(w.document.path, w.unrun)
		} else {
			w.report.ran(w.document.path)
		}
	}
	return nil
}

func (w *walk) statement(ctx context.Context, s *syntax.Stmt) error {
	if s.Background {
		return w.shell.Run(w.until, s) // in the background
	}
	ctx, cancel := context.WithTimeout(ctx, stacktest.Journey)
	defer cancel()
	err := w.shell.Run(ctx, s)
	if ctx.Err() != nil {
		return fmt.Errorf("it did not end within %s", stacktest.Journey)
	}
	return err
}

func source(node syntax.Node) string {
	var out strings.Builder
	if err := syntax.NewPrinter().Print(&out, node); err != nil {
		return err.Error()
	}
	return out.String()
}

// exec is called for each program that the page's shell starts.
func (w *walk) exec(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		handle, err := known(args[0])
		if err != nil {
			return err
		}
		return handle(ctx, w, next, args)
	}
}

// notRun is how a handler says that it leaves a command out.
func (w *walk) notRun(reason string) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.unrun = reason
	return nil
}

// named is the first line of a manifest that has a file's name: the reader puts the block there.
var named = regexp.MustCompile(`\A# ([\w./-]+\.ya?ml)\n`)

// save puts a named block into the reader's file, and says which folder that is.
func (w *walk) save(b block) (folder string, err error) {
	match := named.FindStringSubmatch(b.text)
	if match == nil {
		return "", nil
	}
	path := filepath.Join(w.folder.root, match[1])
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return filepath.Dir(match[1]), os.WriteFile(path, []byte(b.text), 0o600)
}
