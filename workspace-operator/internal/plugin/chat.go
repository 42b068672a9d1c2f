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
		Short: "Chat with the model of a Workspace",
		Long: `Chat with the model of a Workspace through a port-forward to one of its pods. No Service has to be
exposed.

Without a prompt, the command starts a conversation. Each line is a question, and the model remembers the previous
ones. /reset forgets them, /exit or Ctrl-D ends the conversation, and Ctrl-C stops an answer. If the standard input is
not a terminal, it is one prompt.`,
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
	flags.StringVar(&f.system, "system", "", "system message before the conversation")
	flags.IntVar(&f.limit, "max-tokens", 0, "maximum length of an answer in tokens (default: the engine's)")
	flags.Float64Var(&f.temperature, "temperature", 0, "sampling temperature (default: the engine's)")
	flags.StringVar(&f.model, "model", "", "model name, for example of an adapter (default: the Workspace's)")
	flags.StringVar(
		&f.keyFile, "api-key-file", "",
		"file whose first line is the API key, if the Workspace requires one (default: the variable KAITO_API_KEY)",
	)
	flags.BoolVar(
		&f.completion, "completion", false, "continue the text instead of answering it, for models without a chat template",
	)
	return cmd
}

func (e *environment) chat(cmd *cobra.Command, args []string, f chatFlags) error {
	if f.limit < 0 {
		return fmt.Errorf("--max-tokens is %d; allowed: at least 1", f.limit)
	}
	if f.completion && f.system != "" {
		return errors.New("--system and --completion exclude each other")
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
	to, err := c.readyPod(ctx, w)
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
	return "", fmt.Errorf("--api-key-file %s has no key: write it on the first line", file)
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

// ask sends a question. It adds the question and the answer to the conversation, unless the request fails.
func (t *talk) ask(ctx context.Context, prompt string) error {
	conversation := t.said
	if len(conversation) == 0 && t.system != "" {
		conversation = append(conversation, message{"system", t.system})
	}
	conversation = append(conversation, message{"user", prompt})
	answer, finish, err := t.asker.ask(ctx, conversation, t.Out)
	if answer != "" && !strings.HasSuffix(answer, "\n") {
		_, _ = fmt.Fprintln(t.Out) // a write error was reported before
	}
	if err != nil {
		return err
	}
	if finish == "length" {
		_, _ = fmt.Fprintln(t.ErrOut, "(truncated: the token limit was reached)") // not part of the answer
	}
	t.said = append(conversation, message{"assistant", answer})
	return nil
}

const promptMark = "> "

// converse reads questions line by line. Ctrl-C stops an answer; without an answer in progress, it ends the program.
func (t *talk) converse(ctx context.Context) error {
	_, _ = fmt.Fprintf(t.ErrOut, "chat with %s: /reset forgets the conversation, /exit or Ctrl-D ends it\n", t.asker.model)
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

// answer asks one question. It prints an error instead of returning it, so that the conversation continues.
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
