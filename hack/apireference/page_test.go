// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const definition = `
spec:
  group: example.com
  scope: Cluster
  names: {kind: Thing, plural: things, shortNames: [th]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: string, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        description: Thing is a thing.
        type: object
        properties:
          spec:
            description: spec of it.
            type: object
            required: [size]
            x-kubernetes-validations: [{rule: "true", message: "size and sizes: keep one"}]
            properties:
              size: {description: "size <of> it", type: string, default: small, enum: [small, large], pattern: "a|b"}
              at: {type: string, format: date-time, pattern: "^2", minItems: 1, maxItems: 0}
              parts:
                type: array
                maxItems: 3
                items: {description: a part., type: object, properties: {weight: {type: integer, minimum: 0, maximum: 9}}}
              tolerations:
                type: array
                items: {type: object, properties: {key: {}, operator: {}, value: {}, effect: {}, tolerationSeconds: {}}}
`

// TestAPageHasEveryRuleOfAKind catches a default, an allowed value, a bound or a message that the page leaves out.
func TestAPageHasEveryRuleOfAKind(t *testing.T) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal([]byte(definition), crd); err != nil {
		t.Fatal(err)
	}
	constants := []constant{{"ReasonLost", "Lost", "it is lost."}, {"ConditionReady", "Ready", "the verdict."}}
	page, err := render(crd, constants, func(reason string) bool { return reason == "Lost" })
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Thing\n", "| scope | of the whole cluster |", "`things` (th): SIZE; with `-o wide` also nothing |",
		"| `spec` | [object](#spec) | spec of it. |  |",
		"- refused with “size and sizes: keep one”",
		"| `size` | string | size &lt;of&gt; it | required; default `small`; one of `small`, `large`; matches `a\\|b` |",
		"| `parts` | [\\[\\]object](#specparts) |  | at most 3 items |", "### spec.parts[]\n\na part.\n", "| `weight` | integer |  | 0 to 9 |",
		"| `at` | date-time |  |  |",
		"| `tolerations` | []Toleration |  |  |",
		"| [Lost](../runbooks/Lost.md) | it is lost. |", "| Ready | the verdict. |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}
