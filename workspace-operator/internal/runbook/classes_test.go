// SPDX-License-Identifier: Apache-2.0

package runbook_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/api/reason"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/workspace-operator/internal/runbook"
)

// Catches a new reason without a class, and a class Stalled without a page that says what to do.
func TestReasonClasses(t *testing.T) {
	t.Parallel()
	for file, classes := range map[string]map[string]reason.Class{
		"kaito/v1alpha1/condition_consts.go":  kaitov1alpha1.ReasonClasses,
		"karpenter/v1alpha5/reason_consts.go": karpenterv1alpha5.ReasonClasses,
		"nodeclass/v1alpha1/reason_consts.go": nodeclassv1alpha1.ReasonClasses,
		"tuning/v1alpha1/reason_consts.go":    tuningv1alpha1.ReasonClasses,
	} {
		names := reasonsOf(t, filepath.Join("../../../shared/api", file))
		require.NotEmpty(t, names)
		for _, name := range names {
			class, ok := classes[name]
			assert.True(t, ok, "%s has no class in ReasonClasses of %s", name, filepath.Dir(file))
			if class == reason.Stalled {
				_, found := runbook.Find(name)
				assert.True(t, found, "docs/runbooks/%s.md is missing", name)
			}
		}
		assert.Len(t, classes, len(names), "%s: a class without a reason", file)
	}
}

// reasonsOf returns the values of the constants in a file whose name begins with Reason.
func reasonsOf(t *testing.T, file string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	var out []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		out = append(out, value)
		return true
	})
	return out
}
