// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// folder is a reader's clone of the repository, and what is on the reader's PATH.
type folder struct{ root, tools, home string }

// clone makes a folder that looks like the repository's own: what is in it leads there, what a page writes beside it
// does not.
func clone(t *testing.T, root string) folder {
	t.Helper()
	f := folder{root: t.TempDir(), tools: t.TempDir(), home: t.TempDir()}
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	for _, entry := range entries {
		if entry.Name() == ".git" || entry.Name() == "dist" { // what `make release` writes is the reader's
			continue
		}
		require.NoError(t, os.Symlink(filepath.Join(root, entry.Name()), filepath.Join(f.root, entry.Name())))
	}
	for _, tool := range []string{"k8s/kubectl", "kubectl-kaito", "kustomize", "runner"} {
		path := filepath.Join(root, "bin", tool)
		require.FileExists(t, path, "make binaries kubectl-kaito tools controlplane")
		require.NoError(t, os.Symlink(path, filepath.Join(f.tools, filepath.Base(tool))))
	}
	return f
}
