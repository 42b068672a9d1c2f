// SPDX-License-Identifier: Apache-2.0

// Package verbatim keeps the kubelet from expanding text that a user gave.
//
// The kubelet replaces $(NAME) in a container's command, arguments and environment values by the value of that
// variable. "$(HF_TOKEN)" in a URL would send the token to the server of that URL.
package verbatim

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Text returns s in a form that the kubelet turns back into s. Every dollar sign is doubled, because the kubelet reads
// "$$" as one dollar sign wherever it occurs: "$(" alone would not do, since "$$$(NAME)" is a dollar sign and a
// variable. Source:
// https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/.
func Text(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// All returns Text of each element, in a new slice.
func All(texts []string) []string {
	if texts == nil {
		return nil
	}
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = Text(s)
	}
	return out
}

// Container changes c so that nothing in its command, arguments and environment values is expanded.
func Container(c *corev1.Container) {
	c.Command, c.Args = All(c.Command), All(c.Args)
	for i := range c.Env {
		c.Env[i].Value = Text(c.Env[i].Value)
	}
}
