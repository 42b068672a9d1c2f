// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOnlyRankZeroPushes(t *testing.T) {
	w := newWorld(t)
	o := w.run(
		t, context.Background(), map[string]string{"JOB_COMPLETION_INDEX": "1"}, "push", "--from", "/nowhere", "--to",
		w.host+"/x:1",
	)
	assert.Zero(t, o.code)
	assert.Nil(t, o.message.Push)
	assert.Contains(t, o.out, "skipped")
}

func TestPushIntoAVolume(t *testing.T) {
	w := newWorld(t)
	to := filepath.Join(t.TempDir(), "results")
	o := w.run(t, context.Background(), nil, "push", "--from", adapter(t), "--to-volume", to)
	require.Zero(t, o.code, o.out)
	assert.FileExists(t, filepath.Join(to, "adapter_config.json"))
	assert.FileExists(t, filepath.Join(to, "adapter_model.safetensors"))
	left, err := filepath.Glob(filepath.Join(to, "*.part"))
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Equal(t, to, o.message.Push.Path)
	assert.Empty(t, o.message.Push.Image)
	assert.False(t, o.message.Push.ChatTemplate, "it has none")
	assert.Regexp(t, "^sha256:", o.message.Push.Digest)
}

func TestPackageHostsAModelFolder(t *testing.T) {
	w := newWorld(t)
	from := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(from, "config.json"), []byte(`{"model_type":"phi3"}`), 0o600))
	o := w.run(
		t, context.Background(), nil, "package", "--allow-private", "--from", from, "--to", w.host+"/models/phi:1",
		"--credentials", w.credentials(t),
	)
	require.Zero(t, o.code, o.out)
	got := t.TempDir()
	back := w.run(
		t, context.Background(), nil, "fetch", "--allow-private", "--credentials", w.credentials(t), "--model-image",
		w.host+"/models/phi:1", "--model-dir", got, "--model-name", "phi",
	)
	require.Zero(t, back.code, back.out)
	assert.Equal(t, "phi", back.message.Fetch.BaseModel)
	assert.Equal(t, o.message.Push.Digest, back.message.Fetch.BaseRevision)
	assert.FileExists(t, filepath.Join(got, "config.json"))
}
