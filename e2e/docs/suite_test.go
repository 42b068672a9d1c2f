// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/stack/stacktest"
)

// TestWrongPagesAreFound shows that a page that is wrong fails, and where. Nothing here reaches a cluster.
func TestWrongPagesAreFound(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, page, want string }{
		{"a fence without a language", "```\nkubectl get nodes\n```\n", "p.md:2: the fence says no language"},
		{"an unknown program", "```sh\nmkdir a\n\nterraform apply\n```\n", `p.md:4: terraform apply
no handler checks "terraform"`},
		{"a program in a pipe", "    cat go.work | jq .\n", `no handler checks "jq"`},
		{"a file that is not there", "    cat examples/nothing.yaml\n", "p.md:1: cat examples/nothing.yaml\nexit status 1"},
		{"an unset variable", "    mkdir $NAME\n", "NAME: unbound variable"},
		{"a command of az with a typing mistake", "    az group craete --name a\n", "az group craete is not among"},
		{"a flag that az does not have", "    az group create --named a\n", "az group create has no flag --named"},
		{"an empty argument for az", "```sh\nA=\"\"\naz group create --name \"$A\"\n```\n", "p.md:3: az group create --name \"$A\"\naz group create: an argument is empty"},
		{"a target that make does not have", "    make everything\n", "No rule to make target"},
		{"a flag that the runner does not have", "    runner push --form ./adapter\n", "runner does not know the flag --form"},
		{"a package that is not there", "    go test ./nowhere\n", "there is no Go in ./nowhere"},
		{"a curl without a port-forward", "    curl http://localhost:8080/chat\n", "no port-forward leads to port 8080"},
		{"a script that is not there", "    hack/nothing\n", "no such file"},
		{"a manifest that is not YAML", "```yaml\na: [\n```\n", "p.md:2: this is not YAML"},
		{"a kustomization without a name", "```yaml\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n```\n", "a kustomization needs a name"},
		{"invalid JSON", "```json\n{,}\n```\n", "p.md:2: this is not JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			problems, _ := readAlone(t, test.page)
			require.Len(t, problems, 1)
			assert.ErrorContains(t, problems[0], test.want)
		})
	}
}

// TestRightPagesPass shows that a page's shell is one: what a block sets and writes the next ones have.
func TestRightPagesPass(t *testing.T) {
	t.Parallel()
	problems, table := readAlone(t, `# Page

- a list
    of two lines

Four spaces:

    export NAME=mine
    mkdir -p $NAME && cat > $NAME/kustomization.yaml <<EOF
    apiVersion: kustomize.config.k8s.io/v1beta1
    kind: Kustomization
    resources: [../workspace-operator/config/overlays/karpenter]
    EOF

A fence:

   `+"```sh"+`
   kustomize build $NAME | sed -n 1p # the first line
   ID=$(az account show --query id -o tsv)
   az group create --name $NAME --location $ID
   make help
   `+"```"+`

`+"```sh no-run: it costs money\nterraform apply\n```"+`

`+"```yaml\n# other/kustomization.yaml\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../mine]\n```"+`
`)
	require.Empty(t, problems)
	row := table.rows["p.md"]
	assert.Equal(t, 4, row.blocks)
	assert.Equal(t, 4, row.ran)
	assert.Equal(t, map[string]int{
		"it costs money": 1,
		"make, dry: other suites run its targets":          1,
		"az: its names, flags and variables are looked at": 2,
	}, row.unrun)
}

// readAlone reads a page without a cluster.
func readAlone(t *testing.T, page string) ([]error, *report) {
	t.Helper()
	d, err := parse("p.md", []byte(page))
	require.NoError(t, err)
	w := &walk{
		document: d,
		report:   newReport(),
		folder:   clone(t, stacktest.Root(t)),
		fill:     strings.NewReplacer(),
		forwards: map[string]string{},
	}
	return w.run(t.Context()), w.report
}
