// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

const (
	outputJSON = "json"
	outputYAML = "yaml"
	outputWide = "wide"
)

// outputFlag is the value of -o. It accepts only the allowed formats.
type outputFlag struct {
	value   *string
	allowed []string
}

func (o *outputFlag) String() string { return *o.value }
func (o *outputFlag) Type() string   { return "string" }
func (o *outputFlag) Set(s string) error {
	for _, a := range o.allowed {
		if s == a {
			*o.value = s
			return nil
		}
	}
	return fmt.Errorf("allowed: %s", strings.Join(o.allowed, ", "))
}

// addOutput adds the flag -o with json, yaml and the command's other formats.
func addOutput(cmd *cobra.Command, value *string, more ...string) {
	allowed := append([]string{outputJSON, outputYAML}, more...)
	cmd.Flags().VarP(&outputFlag{value, allowed}, "output", "o", "output format: "+strings.Join(allowed, ", "))
	complete(cmd, "output", allowed...)
}

// complete adds shell completion for the values of a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	// Registration fails only for an unknown flag.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func (e *environment) encode(format string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the output as JSON: %w", err)
	}
	if format == outputYAML {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return fmt.Errorf("writing the output as YAML: %w", err)
		}
	}
	_, err = fmt.Fprintln(e.Out, strings.TrimRight(string(text), "\n"))
	return err
}

// table aligns columns as kubectl does.
type table struct {
	out   io.Writer
	flush func() error
	err   error
}

func (e *environment) table(headings ...string) *table { return newTable(e.Out, headings...) }

func newTable(out io.Writer, headings ...string) *table {
	w := printers.GetNewTabWriter(out)
	t := &table{out: w, flush: w.Flush}
	t.row(headings...)
	return t
}

func (t *table) row(cells ...string) {
	if t.err == nil {
		_, t.err = fmt.Fprintln(t.out, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
}

func (t *table) end() error {
	if t.err != nil {
		return t.err
	}
	return t.flush()
}

// colour is an SGR code.
type colour string

const (
	green  colour = "32"
	yellow colour = "33"
	red    colour = "31"
	faint  colour = "2"
)

// palette colours text for terminals.
type palette struct{ on bool }

// terminal reports whether out is a terminal, and the size of its window; 0 is unknown.
func terminal(out any) (width, height int, yes bool) {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) { //nolint:gosec // file descriptors are small
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(file.Fd())) //nolint:gosec // as above
	if err != nil {
		return 0, 0, true
	}
	return width, height, true
}

// paletteFor returns a palette without colours if out is not a terminal, if NO_COLOR is set (https://no-color.org), or
// if the terminal is dumb.
func paletteFor(out any) palette {
	_, _, yes := terminal(out)
	return palette{on: yes && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (p palette) paint(c colour, text string) string {
	if !p.on || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}
