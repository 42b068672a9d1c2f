// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

func TestStopLeavesNoProcessAndNoFolder(t *testing.T) {
	before := time.Now()
	c, err := cluster.Start(t.Context(), cluster.Options{})
	require.NoError(t, err)
	t.Logf("etcd and the API server alone were up in %s", time.Since(before))
	require.NotEmpty(t, processesIn(t, c.Dir()), "a check that finds no process of a running cluster proves nothing")
	require.NoError(t, c.Stop())
	assert.Empty(t, processesIn(t, c.Dir()))
	assert.NoDirExists(t, c.Dir())
	assert.NoError(t, c.Stop(), "a second Stop is harmless")
}

func TestClusterEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{})
	require.NoError(t, err)
	cancel()
	select {
	case <-c.Stopped():
	case <-time.After(eventually.Long):
		require.Fail(t, "the cluster outlived its context")
	}
	assert.Empty(t, processesIn(t, c.Dir()))
	assert.NoDirExists(t, c.Dir())
}

func TestPanicLeavesNoProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a child with its parent")
	}
	crash := exec.CommandContext(t.Context(), os.Args[0])
	crash.Env = append(os.Environ(), crashVariable+"=1")
	output, err := crash.Output()
	require.Error(t, err, "the child must have panicked")
	folder, _, _ := strings.Cut(string(output), "\n")
	require.DirExists(t, folder)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Empty(c, processesIn(t, folder))
	}, eventually.Short, eventually.Tick)

	c, err := cluster.Start(t.Context(), cluster.Options{})
	require.NoError(t, err)
	assert.NoDirExists(t, folder)
	assert.DirExists(t, shared.Dir(), "the folder of a cluster that runs stays")
	require.NoError(t, c.Stop())
}

func TestFailedStartLeavesNoProcess(t *testing.T) {
	folder := t.TempDir()
	_, err := cluster.Start(t.Context(), cluster.Options{Dir: folder, APIServerArgs: []string{"--no-such-flag"}})
	require.ErrorContains(t, err, "kube-apiserver ended unexpectedly")
	require.ErrorContains(t, err, "no-such-flag", "the component's own words belong to the error")
	assert.Empty(t, processesIn(t, folder))
}

func TestFolderWithOtherFilesIsRefused(t *testing.T) {
	folder := t.TempDir()
	precious := filepath.Join(folder, "thesis.txt")
	require.NoError(t, os.WriteFile(precious, []byte("…"), 0o600))
	_, err := cluster.Start(t.Context(), cluster.Options{Dir: folder})
	require.ErrorContains(t, err, "has files of another origin")
	assert.FileExists(t, precious)
}

func TestMissingBinariesNameTheRemedy(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", t.TempDir())
	t.Chdir(t.TempDir()) // outside of the repository, which has bin/k8s
	_, err := cluster.Start(t.Context(), cluster.Options{Scheduler: true})
	var missing *cluster.MissingBinariesError
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, []string{"etcd", "kube-apiserver", "kube-scheduler"}, missing.Names)
	assert.ErrorContains(t, err, "make controlplane")
}
