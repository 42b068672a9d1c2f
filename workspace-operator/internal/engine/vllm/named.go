// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/engineargs"
)

// kaitosTemplates is the folder of the chat templates in KAITO's image.
const kaitosTemplates = "/workspace/chat_templates/"

// template returns where the image has a chat template. A file of KAITO's image that the engine's image has, too, is
// found there; the model's own template replaces the others.
func (c *section) template(value string) (string, error) {
	name, kaitos := strings.CutPrefix(value, kaitosTemplates)
	if !kaitos {
		if path.Dir(value) != c.templates || slices.Contains(c.table.Templates, path.Base(value)) {
			return value, nil // a text, or a file that we do not know of
		}
		name = path.Base(value)
	}
	if ours := templateFile(strings.TrimSuffix(strings.TrimPrefix(name, "tool-chat-"), ".jinja")); kaitos &&
		slices.Contains(c.table.Templates, ours) {
		return c.templates + "/" + ours, nil
	}
	near := catalog.Nearest(name, c.table.Templates)
	if len(near) == 0 {
		near = c.table.Templates
	}
	return "", fmt.Errorf(
		"is %q, which the image of vLLM %s does not have; remove the key to use the model's own template, or name one "+
			"in %s: %s",
		value, c.table.Version, c.templates, strings.Join(near, ", "),
	)
}

// templateFile is the file name of a chat template in the engine's image.
func templateFile(name string) string {
	if strings.HasPrefix(name, "template_") {
		return name + ".jinja" // for chat without tools
	}
	return "tool_chat_template_" + strings.ReplaceAll(name, "-", "_") + ".jinja"
}

// registered refuses the name of a parser that the engine does not have. It looks for the name when it starts, after
// the node is bought.
func (c *section) registered() error {
	// In a fixed order, so that the same configuration gives the same error.
	for _, pair := range [][2]string{
		{"reasoning-parser", "reasoning-parser-plugin"}, {"tool-call-parser", "tool-parser-plugin"},
	} {
		flag, plugin := pair[0], pair[1]
		values, given := c.Passed[flag]
		if _, plugged := c.Passed[plugin]; !given || plugged || c.table == nil {
			continue
		}
		known, _ := c.table.Flag(flag)
		if name := values[0]; name != "" && !slices.Contains(known.Registered, name) {
			allowed := catalog.Nearest(name, known.Registered)
			if len(allowed) == 0 {
				allowed = known.Registered
			}
			return c.Wrong(c.keys[flag], "is %q; vLLM %s has %s", name, c.table.Version, strings.Join(allowed, ", "))
		}
	}
	return nil
}

// hasParser says whether a release has a parser. An older one serves a model without, and would not start with it.
func hasParser(release catalog.Engine, flag, name string) bool {
	table, err := engineargs.Closest(release.Version)
	if err != nil {
		return true
	}
	known, _ := table.Flag(flag)
	return slices.Contains(known.Registered, name)
}
