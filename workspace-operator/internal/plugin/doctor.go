// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// grade is the result of a check.
type grade string

const (
	gradeOK   grade = "ok"
	gradeWarn grade = "warn"
	gradeFail grade = "fail"
)

// diagnosis is one line of the output of doctor.
type diagnosis struct {
	Grade grade  `json:"grade"`
	Check string `json:"check"`
	Text  string `json:"text"`
	// Remedy says what to do; empty if the check passed.
	Remedy string `json:"remedy,omitempty"`
}

func (e *environment) doctorCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that the cluster has the components that Workspaces need, and print remedies",
		Long: `Check the APIs, the operators and their leases, a node provisioner, the GPUs of the nodes and your own
permissions. Each line is ok, warn (a feature does not work, or the check was not possible) or fail. The exit code
is 1 if a check failed. The command changes nothing.`,
		Example: `  kubectl kaito doctor
  kubectl kaito doctor -n team-a -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			all, err := e.diagnose(cmd.Context(), c)
			if err != nil {
				return err
			}
			return e.printDiagnoses(all, output)
		},
	}
	addOutput(cmd, &output)
	return cmd
}

// diagnose runs all checks. It returns an error if the API server does not answer.
func (e *environment) diagnose(ctx context.Context, c *cluster) ([]diagnosis, error) {
	apis, err := c.served()
	if err != nil {
		return nil, err
	}
	var out []diagnosis
	for _, check := range []func(context.Context, *cluster, servedAPIs) []diagnosis{
		checkAPIs, e.checkOperators, e.checkProvisioner, checkGPUs, checkRights,
	} {
		out = append(out, check(ctx, c, apis)...)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return out, nil
}

func (e *environment) printDiagnoses(all []diagnosis, output string) error {
	counts := map[grade]int{}
	for _, d := range all {
		counts[d.Grade]++
	}
	var err error
	if output != "" {
		err = e.encode(output, all)
	} else {
		err = e.printDiagnosisLines(all, counts)
	}
	if err == nil && counts[gradeFail] > 0 {
		return &noError{}
	}
	return err
}

func (e *environment) printDiagnosisLines(all []diagnosis, counts map[grade]int) error {
	p := paletteFor(e.Out)
	colours := map[grade]colour{gradeOK: green, gradeWarn: yellow, gradeFail: red}
	var out strings.Builder
	for _, d := range all {
		_, _ = fmt.Fprintf(
			&out, "%s %-12s %s\n", p.paint(colours[d.Grade], fmt.Sprintf("%-4s", d.Grade)), d.Check, d.Text,
		) // a strings.Builder does not fail
		if d.Remedy != "" {
			_, _ = fmt.Fprintf(&out, "                  → %s\n", d.Remedy)
		}
	}
	_, err := fmt.Fprintf(
		e.Out, "%s\n%d ok, %d warn, %d fail\n", out.String(), counts[gradeOK], counts[gradeWarn], counts[gradeFail],
	)
	return err
}

// notChecked returns a warning for a check whose objects cannot be read.
func notChecked(check, what string, err error) diagnosis {
	return diagnosis{
		gradeWarn,
		check,
		fmt.Sprintf("%s cannot be read, so this was not checked: %v", what, err),
		"ask an administrator for permission to list them, or to run this command",
	}
}
