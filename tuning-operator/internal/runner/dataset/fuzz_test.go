// SPDX-License-Identifier: Apache-2.0

package dataset_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/dataset"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// inspect checks one file with the given bytes. The result is a report with rows, or a permanent error.
func inspect(t *testing.T, name string, data []byte) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	report, err := dataset.Inspect(dir, "", dataset.Columns{})
	if err == nil {
		assert.Positive(t, report.Rows)
		assert.EqualValues(t, len(data), report.Bytes)
		assert.NotEmpty(t, report.Schema.Kind)
		var counted int64
		for _, bucket := range report.Tokens.Buckets {
			counted += bucket.Rows
		}
		assert.Equal(t, report.Rows, counted, "each row is in one bucket")
		return
	}
	got := fault.Of(err, "Unsorted")
	require.Equal(t, tuningv1alpha1.ReasonDatasetInvalid, got.Reason, err)
	require.True(t, got.Permanent, "the same bytes would be refused again")
	var bad *dataset.BadRowError
	if errors.As(err, &bad) {
		assert.Equal(t, name, bad.File)
		assert.GreaterOrEqual(t, bad.Row, int64(0))
		assert.NotEmpty(t, bad.Why)
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"text":"a"}` + "\n" + `{"text":"b"}`, `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`, "\xef\xbb\xbf" + `{"prompt":"q","completion":"a"}` + "\r\n\r\n",
		`[{"text":"a"},{"text":"b"}]`, `[{"text":"a"}`, `[]`, `{"text":null}`, `{"messages":[{"role":"user","content":[{"type":"text","text":"q"}]}]}`, `{"prompt":[{"role":"user","content":"q"}],"completion":[]}`,
		"text\n\"a\nb\"\n", "prompt,completion\nq,a\nq", "PAR1", "\x00", `{"text":"` + "\xff" + `"}`, "[[[[[[", `{"a":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"a.jsonl", "a.json", "a.csv"} {
			inspect(t, name, data)
		}
	})
}

func FuzzParquet(f *testing.F) {
	type row struct {
		Text string `parquet:"text,dict"`
	}
	type pair struct {
		Prompt     *string `parquet:"prompt,optional"`
		Completion []byte  `parquet:"completion"`
	}
	for _, codec := range []parquet.WriterOption{
		parquet.Compression(&parquet.Snappy), parquet.Compression(&parquet.Zstd), parquet.Compression(&parquet.Uncompressed),
	} {
		f.Add(written(f, codec, row{"a"}, row{"b"}, row{"a"}))
		f.Add(written(f, codec, pair{ptr("q"), []byte("a")}, pair{nil, []byte("b")}))
		f.Add(written(f, codec, chat{Messages: []turn{{ptr("q"), ptr("user")}, {ptr("a"), ptr("assistant")}}}, chat{}))
	}
	f.Add([]byte("PAR1PAR1"))
	f.Add([]byte(hugeFooter))
	f.Fuzz(func(t *testing.T, data []byte) { inspect(t, "a.parquet", data) })
}
