// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Escape returns s in a form that the kubelet expands to s.
//
// The kubelet replaces $(NAME) in a container's command, arguments and environment values with the value of that
// variable: "$(HF_TOKEN)" in a URL would send the token to the server of that URL. Escape doubles every dollar sign,
// because the kubelet reads "$$" as one dollar sign wherever it occurs. Doubling only "$(" is not enough: the kubelet
// reads "$$$(NAME)" as a dollar sign and a variable. Source:
// https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/.
func Escape(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// EscapeAll returns a new slice with each element escaped. The result for nil is nil.
func EscapeAll(texts []string) []string {
	if texts == nil {
		return nil
	}
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = Escape(s)
	}
	return out
}

// EscapeContainer escapes the command, the arguments and the environment values of c in place.
func EscapeContainer(c *corev1.Container) {
	c.Command, c.Args = EscapeAll(c.Command), EscapeAll(c.Args)
	for i := range c.Env {
		c.Env[i].Value = Escape(c.Env[i].Value)
	}
}
