// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// render is the page of a kind.
func render(
	definition *apiextensionsv1.CustomResourceDefinition, constants []constant, hasRunbook func(string) bool,
) (string, error) {
	stored, err := storedVersion(definition)
	if err != nil {
		return "", err
	}
	p := &page{}
	names := definition.Spec.Names
	p.say("# %s\n\n<!-- Written by `make generate` from shared/api: do not edit. -->\n", names.Kind)
	top := stored.Schema.OpenAPIV3Schema
	p.say("%s\n", paragraph(top.Description))
	p.facts(definition, stored)
	p.object("", top)
	p.constants("Conditions", "Condition", constants, func(string) bool { return false })
	p.constants("Reasons", "Reason", constants, hasRunbook)
	return strings.TrimRight(p.text.String(), "\n") + "\n", nil
}

type page struct{ text strings.Builder }

func (p *page) say(format string, args ...any) { _, _ = fmt.Fprintf(&p.text, format+"\n", args...) }

// facts are what kubectl shows of a kind before any of its fields.
func (p *page) facts(
	definition *apiextensionsv1.CustomResourceDefinition, stored *apiextensionsv1.CustomResourceDefinitionVersion,
) {
	var versions []string
	for _, v := range definition.Spec.Versions {
		if v.Served {
			versions = append(versions, "`"+definition.Spec.Group+"/"+v.Name+"`")
		}
	}
	scope := "in a namespace"
	if definition.Spec.Scope == apiextensionsv1.ClusterScoped {
		scope = "of the whole cluster"
	}
	short := ""
	if names := definition.Spec.Names.ShortNames; len(names) > 0 {
		short = " (" + strings.Join(names, ", ") + ")"
	}
	var columns, wide []string
	for _, c := range stored.AdditionalPrinterColumns {
		if name := strings.ToUpper(c.Name); c.Priority == 0 {
			columns = append(columns, name)
		} else {
			wide = append(wide, name)
		}
	}
	p.say("| | |\n|---|---|")
	p.say("| API versions | %s; stored is `%s` |", strings.Join(versions, ", "), stored.Name)
	p.say("| scope | %s |", scope)
	p.say(
		"| kubectl | `%s`%s: %s; with `-o wide` also %s |\n",
		definition.Spec.Names.Plural,
		short,
		strings.Join(columns, ", "),
		orNothing(strings.Join(wide, ", ")),
	)
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// object is a section: what the object is, the rules between its fields, a table of them, and the sections of those
// that are objects.
func (p *page) object(path string, s *schema) {
	if path == "" {
		p.say("## Fields\n")
	} else {
		p.say("### %s\n", path)
		p.say("%s\n", paragraph(s.Description))
	}
	for _, message := range messages(s) {
		p.say("- refused with %s", message)
	}
	if len(messages(s)) > 0 {
		p.say("")
	}
	p.say("| field | type | what | rules |\n|---|---|---|---|")
	fields := slices.DeleteFunc(slices.Sorted(maps.Keys(s.Properties)), func(name string) bool {
		return path == "" && slices.Contains([]string{"apiVersion", "kind", "metadata"}, name)
	})
	for _, name := range fields {
		field := s.Properties[name]
		typeName, inner := typeOf(&field)
		if inner != nil {
			typeName = "[" + strings.ReplaceAll(
				strings.ReplaceAll(typeName, "[", `\[`),
				"]",
				`\]`,
			) + "](#" + anchor(below(path, name, typeName)) + ")"
		}
		p.say(
			"| `%s` | %s | %s | %s |",
			name,
			typeName,
			cell(field.Description),
			cell(strings.Join(rules(&field, slices.Contains(s.Required, name)), "; ")),
		)
	}
	p.say("")
	for _, name := range fields {
		field := s.Properties[name]
		if typeName, inner := typeOf(&field); inner != nil {
			p.object(below(path, name, typeName), inner)
		}
	}
}

// below is the path of a field, as error messages have it.
func below(path, name, typeName string) string {
	if strings.HasPrefix(typeName, "[]") {
		name += "[]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// anchor is what GitHub makes of a heading.
func anchor(heading string) string {
	return strings.ToLower(strings.NewReplacer(".", "", "[", "", "]", "").Replace(heading))
}

func (p *page) constants(title, prefix string, constants []constant, hasRunbook func(string) bool) {
	var rows []string
	for _, c := range constants {
		if !strings.HasPrefix(c.name, prefix) {
			continue
		}
		value := c.value
		if hasRunbook(value) {
			value = "[" + value + "](../runbooks/" + value + ".md)"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s |", value, cell(c.comment)))
	}
	if len(rows) > 0 {
		p.say("## %s\n\n| | |\n|---|---|\n%s\n", title, strings.Join(rows, "\n"))
	}
}

// paragraph is a comment as Markdown: lines that begin with + are markers of generators.
func paragraph(text string) string {
	return escape(strings.Join(strings.Fields(text), " "))
}

// cell is a text in a table.
func cell(text string) string { return strings.ReplaceAll(paragraph(text), "|", `\|`) }

func escape(text string) string { return strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(text) }

func firstSentence(text string) string {
	first, _, _ := strings.Cut(strings.Join(strings.Fields(text), " "), ". ")
	return strings.TrimSuffix(first, ".") + "."
}
