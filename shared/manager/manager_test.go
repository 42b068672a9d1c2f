// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"bytes"
	"context"
	"flag"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	ctrl "sigs.k8s.io/controller-runtime"
)

func TestRunWithoutACluster(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		code int
		out  string
	}{
		{"help lists the operator's flags", []string{"--help"}, 0, "-node-class"},
		{"version", []string{"--version"}, 0, "some-operator "},
		{"an unknown flag is named", []string{"--nope"}, 2, "-nope"},
		{"a short lease is refused", []string{"--leader-election-lease-duration=1s"}, 2, "must be at least 3s"},
		{"--watch-namespace needs Namespaced", []string{"--watch-namespace=blue"}, 2, "-watch-namespace"},
		{"a stray argument is named", []string{"stray"}, 2, `"stray"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			code := run(context.Background(), Options{
				Name: "some-operator", Short: "Does something.",
				Flags: func(fs *flag.FlagSet) { fs.String("node-class", "", "a flag of its own") },
				Setup: func(context.Context, ctrl.Manager) error { require.Fail(t, "must not be reached"); return nil },
			}, tc.args, &out)
			assert.Equal(t, tc.code, code)
			assert.Contains(t, out.String(), tc.out)
		})
	}
}

func TestMissingClusterIsReportedInOneLine(t *testing.T) {
	t.Setenv("KUBECONFIG", t.TempDir()+"/none")
	t.Setenv("HOME", t.TempDir())
	var out bytes.Buffer
	code := run(context.Background(), Options{Name: "some-operator"}, nil, &out)
	assert.Equal(t, 1, code)
	assert.Contains(t, out.String(), "set --kubeconfig or KUBECONFIG")
}
