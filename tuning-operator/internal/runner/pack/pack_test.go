// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/pack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, dir, name, body string) string {
	t.Helper()
	p := filepath.Join(dir, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
	require.NoError(t, os.WriteFile(p, []byte(body), 0o600))
	return p
}

func TestSameFolderGivesSameBytes(t *testing.T) {
	facts := map[string]string{"b": "2", "a": "1"}
	one, two := t.TempDir(), t.TempDir()
	for _, name := range []string{"adapter_config.json", "sub/b.txt", "sub/a.txt"} {
		write(t, one, name, "body of "+name)
	}
	for _, name := range []string{"sub/a.txt", "sub/b.txt", "adapter_config.json"} {
		p := write(t, two, name, "body of "+name)
		require.NoError(t, os.Chtimes(p, time.Unix(99, 0), time.Unix(99, 0)))
		require.NoError(t, os.Chmod(p, 0o640))
	}
	write(t, two, ".cache/noise", "hidden files stay out")

	first, err := pack.Build(one, facts)
	require.NoError(t, err)
	second, err := pack.Build(two, facts)
	require.NoError(t, err)
	assert.Equal(t, string(first.Manifest), string(second.Manifest))
	assert.Equal(t, string(first.Config), string(second.Config))
	// The digest of this folder on any machine. A change of it changes all images that users have pinned.
	assert.Equal(
		t, "sha256:13cdbf94c91b2ab3a02911e32e6a2f88afa7b917eb351637ec9b6aa56622158a",
		first.Layers[0].Descriptor.Digest.String(),
	)
}

func TestLayersMatchTheirDescriptors(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "adapter_config.json", "{}")
	write(t, dir, "deep/er/file", "x")
	img, err := pack.Build(dir, nil)
	require.NoError(t, err)
	require.Len(t, img.Layers, 1)
	body := img.Layers[0].Open()
	raw, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	sum := sha256.Sum256(raw)
	assert.Equal(t, "sha256:"+hex.EncodeToString(sum[:]), img.Layers[0].Descriptor.Digest.String())
	assert.EqualValues(t, len(raw), img.Layers[0].Descriptor.Size)

	var names []string
	for tr := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names = append(names, h.Name)
		assert.Zero(t, h.Uid+h.Gid)
		assert.True(t, h.ModTime.Equal(time.Unix(0, 0)))
	}
	assert.Equal(
		t, []string{"data/", "data/adapter_config.json", "data/deep/", "data/deep/er/", "data/deep/er/file"}, names,
	)

	var config imagespec.Image
	require.NoError(t, json.Unmarshal(img.Config, &config))
	assert.Equal(
		t, img.Layers[0].Descriptor.Digest, config.RootFS.DiffIDs[0], "uncompressed: the layer is its own diff id",
	)
}

func TestLargeFilesAreLayers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "config.json", "{}")
	for _, name := range []string{"model-1.safetensors", "model-2.safetensors"} {
		p := write(t, dir, name, "")
		require.NoError(t, os.Truncate(p, 64<<20)) // sparse: no disk is used
	}
	img, err := pack.Build(dir, nil)
	require.NoError(t, err)
	require.Len(t, img.Layers, 3)
	assert.Equal(t, "data/model-1.safetensors", img.Layers[1].Descriptor.Annotations[pack.AnnotationFilepath])
	assert.Contains(t, img.Layers[1].Descriptor.Annotations[pack.AnnotationMetadata], `"size":67108864`)
	assert.EqualValues(t, 2+128<<20, img.Size)
}

func TestBuildRefusals(t *testing.T) {
	t.Run("an empty folder", func(t *testing.T) {
		_, err := pack.Build(t.TempDir(), nil)
		assert.ErrorContains(t, err, "no files")
	})
	t.Run("a link", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "weights")))
		_, err := pack.Build(dir, nil)
		assert.ErrorContains(t, err, "regular files")
	})
	t.Run("a file that grows during the push", func(t *testing.T) {
		dir := t.TempDir()
		p := write(t, dir, "f", "1234")
		img, err := pack.Build(dir, nil)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(p, []byte("123"), 0o600))
		body := img.Layers[0].Open()
		_, err = io.ReadAll(body)
		assert.ErrorContains(t, err, "changed")
		require.NoError(t, body.Close())
	})
}

// safetensors returns a file with one tensor of n bytes.
func safetensors(n int) string {
	header := `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[` + "1" + `],"data_offsets":[0,` + itoa(
		n,
	) + `]}}`
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, uint64(len(header)))
	b.WriteString(header)
	b.Write(make([]byte, n))
	return b.String()
}

func itoa(n int) string { raw, _ := json.Marshal(n); return string(raw) }

func TestCheckAdapter(t *testing.T) {
	const config = `{"peft_type":"LORA","r":8}`
	whole := safetensors(4)
	for name, c := range map[string]struct{ config, weights, says string }{
		"a complete adapter":         {config, whole, ""},
		"no configuration":           {"", whole, "no adapter_config.json"},
		"no weights":                 {config, "", "no adapter_model.safetensors"},
		"another configuration":      {`{"model_type":"phi3"}`, whole, "peft_type"},
		"truncated weights":          {config, whole[:len(whole)-1], "according to its header"},
		"weights with extra bytes":   {config, whole + "x", "according to its header"},
		"a truncated header":         {config, whole[:20], "is truncated"},
		"weights without a tensor":   {config, "\x02\x00\x00\x00\x00\x00\x00\x00{}", "no tensor"},
		"an excessive header length": {config, strings.Repeat("\xff", 64), "is truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.config != "" {
				write(t, dir, pack.AdapterConfig, c.config)
			}
			if c.weights != "" {
				write(t, dir, pack.AdapterWeights, c.weights)
			}
			err := pack.CheckAdapter(dir)
			if c.says == "" {
				assert.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.says)
			f := fault.Of(err, "Unsorted")
			assert.Equal(t, tuningv1alpha1.ReasonOutputInvalid, f.Reason)
			assert.True(t, f.Permanent)
		})
	}
}
