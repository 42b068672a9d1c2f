// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/observe"
)

// constants returns the reasons of the API package by the names of their constants.
func constants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../../shared/api/tuning/v1alpha1/reason_consts.go", nil, 0)
	require.NoError(t, err)
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			value, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			out[v.Names[0].Name] = value
		}
		return true
	})
	require.NotEmpty(t, out)
	return out
}

// given returns the reasons in the sources of the runner and the trainer.
func given(t *testing.T) []string {
	t.Helper()
	byName := constants(t)
	var out []string
	for root, find := range map[string]*regexp.Regexp{
		"../runner":     regexp.MustCompile(`tuningv1alpha1\.(Reason\w+)`),
		"../../trainer": regexp.MustCompile(`(?:Failure\(|reason=)"(\w+)"`),
	} {
		before := len(out)
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(path, "test") {
				return err
			}
			raw, err := os.ReadFile(path)
			for _, m := range find.FindAllStringSubmatch(string(raw), -1) {
				reason := m[1]
				if value, ok := byName[reason]; ok {
					reason = value
				}
				out = append(out, reason)
			}
			return err
		})
		require.NoError(t, err)
		require.Greater(t, len(out), before, "%s names no reason", root)
	}
	return out
}

func TestReasonsOfStepsAreKept(t *testing.T) {
	for _, reason := range given(t) {
		text := encode(t, message.Result{Reason: reason, Message: "why"})
		got := observe.Of(tuningJob(), jobWith(), []corev1.Pod{pod("a", stops(job.Train, 1, "Error", text, 5))}, silent)
		require.Len(t, got.Attempts, 1)
		assert.Equal(t, reason, got.Attempts[0].Reason)
	}
}

func TestOtherReasonsAreReplaced(t *testing.T) {
	values := map[string]bool{}
	for _, v := range constants(t) {
		values[v] = true
	}
	for n := range 1000 {
		text := encode(t, message.Result{Reason: "Reason" + strconv.Itoa(n), Message: "why"})
		for _, step := range []string{job.Fetch, job.Train, job.Push} {
			got := observe.Of(tuningJob(), jobWith(), []corev1.Pod{pod("a", stops(step, 1, "Error", text, 5))}, silent)
			require.Len(t, got.Attempts, 1)
			require.True(t, values[got.Attempts[0].Reason], "%s is none of the API's reasons", got.Attempts[0].Reason)
		}
	}
}
