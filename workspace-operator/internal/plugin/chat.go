// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type chatFlags struct {
	system      string
	model       string
	keyFile     string
	limit       int
	temperature float64
	completion  bool
}

func (e *environment) chatCommand() *cobra.Command {
	var f chatFlags
	cmd := &cobra.Command{
		Use:   "chat WORKSPACE [PROMPT]",
		Short: "Ask the model of a Workspace, and show the answer as it comes",
		Long: `Ask the model of a Workspace by a port-forward to one of its pods. Nothing has to be exposed.

Without a prompt a conversation is held: each line is a question, the model knows what was said before, /reset forgets it, /exit or Ctrl-D ends, and
Ctrl-C stops an answer. Where the standard input is no terminal it is read to its end, as one prompt.`,
		Example: `  kubectl kaito chat phi-4-mini "What is Kaito?"
  kubectl kaito chat phi-4-mini --system "Answer in one sentence." --max-tokens 100
  kubectl kaito chat phi-4-mini < question.txt`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: e.completeWorkspaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.chat(cmd, args, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.system, "system", "", "system message that goes before the conversation")
	flags.IntVar(&f.limit, "max-tokens", 0, "the longest answer, in tokens (default: the engine's)")
	flags.Float64Var(&f.temperature, "temperature", 0, "sampling temperature (default: the engine's)")
	flags.StringVar(&f.model, "model", "", "model to ask: an adapter's name, for instance (default: the Workspace's own)")
	flags.StringVar(
		&f.keyFile, "api-key-file", "",
		"file whose first line is the API key, where the Workspace asks for one (default: the variable KAITO_API_KEY)",
	)
	flags.BoolVar(
		&f.completion, "completion", false, "continue the text instead of answering it: for models without a chat template",
	)
	return cmd
}

func (e *environment) chat(cmd *cobra.Command, args []string, f chatFlags) error {
	if f.limit < 0 {
		return fmt.Errorf("--max-tokens is %d; allowed: at least 1", f.limit)
	}
	if f.completion && f.system != "" {
		return errors.New("--system goes with a chat, not with --completion")
	}
	a := asker{model: f.model, limit: f.limit, completion: f.completion, client: &http.Client{}}
	if cmd.Flags().Changed("temperature") {
		a.temperature = &f.temperature
	}
	var err error
	if a.key, err = apiKey(f.keyFile); err != nil {
		return err
	}
	ctx := cmd.Context()
	c, err := e.connect()
	if err != nil {
		return err
	}
	w, err := c.workspace(ctx, args[0])
	if err != nil {
		return err
	}
	to, err := c.answering(ctx, w)
	if err != nil {
		return err
	}
	address, stop, err := c.forward(ctx, to)
	if err != nil {
		return err
	}
	defer stop()
	defer a.client.CloseIdleConnections()
	a.base = "http://" + address
	if a.model == "" {
		a.model = w.Name
	}
	t := &talk{environment: e, asker: a, system: f.system}
	switch {
	case len(args) == 2:
		return t.once(ctx, args[1])
	case isTerminal(e.In):
		return t.converse(ctx)
	}
	prompt, err := io.ReadAll(e.In)
	if err != nil {
		return fmt.Errorf("reading the prompt: %w", err)
	}
	return t.once(ctx, string(prompt))
}

func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) //nolint:gosec // file descriptors are small
}

func apiKey(file string) (string, error) {
	if file == "" {
		return os.Getenv("KAITO_API_KEY"), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--api-key-file: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return line, nil
		}
	}
	return "", fmt.Errorf("--api-key-file %s holds no key: write it in the first line", file)
}

// talk is a conversation.
type talk struct {
	*environment
	asker  asker
	system string
	said   []message
}

func (t *talk) once(ctx context.Context, prompt string) error {
	if strings.TrimSpace(prompt) == "" {
		return errors.New("the prompt is empty: give the question as an argument or on the standard input")
	}
	return t.ask(ctx, prompt)
}

// ask adds a question and its answer to the conversation; a question that was not answered is forgotten.
func (t *talk) ask(ctx context.Context, prompt string) error {
	conversation := t.said
	if len(conversation) == 0 && t.system != "" {
		conversation = append(conversation, message{"system", t.system})
	}
	conversation = append(conversation, message{"user", prompt})
	answer, finish, err := t.asker.ask(ctx, conversation, t.Out)
	if answer != "" && !strings.HasSuffix(answer, "\n") {
		_, _ = fmt.Fprintln(t.Out) // what failed to be written failed before
	}
	if err != nil {
		return err
	}
	if finish == "length" {
		_, _ = fmt.Fprintln(t.ErrOut, "(cut off: the limit of tokens was reached)") // a remark
	}
	t.said = append(conversation, message{"assistant", answer})
	return nil
}

const promptMark = "> "

// converse takes questions line by line. Ctrl-C stops an answer; while none is being given it ends the program, as
// everywhere.
func (t *talk) converse(ctx context.Context) error {
	_, _ = fmt.Fprintf(t.ErrOut, "asking %s; /reset forgets, /exit or Ctrl-D ends\n", t.asker.model)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(t.In); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		_, _ = fmt.Fprint(t.ErrOut, promptMark)
		var line string
		var more bool
		select {
		case line, more = <-lines:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch line = strings.TrimSpace(line); {
		case !more || line == "/exit" || line == "/quit":
			return nil
		case line == "":
			continue
		case line == "/reset":
			t.said = nil
			continue
		}
		t.answer(ctx, line)
	}
}

// answer shows what goes wrong with one question and lets the conversation go on.
func (t *talk) answer(ctx context.Context, line string) {
	asking, release := t.interrupts.within(ctx)
	defer release()
	err := t.ask(asking, line)
	switch {
	case err == nil:
	case asking.Err() != nil:
		_, _ = fmt.Fprintln(t.ErrOut, "(stopped)")
	default:
		_, _ = fmt.Fprintf(t.ErrOut, "error: %v\n", err)
	}
}
