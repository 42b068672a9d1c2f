// SPDX-License-Identifier: Apache-2.0

package dataset_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/dataset"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

type turn struct {
	Content *string `parquet:"content,optional"`
	Role    *string `parquet:"role,optional"`
}

type chat struct {
	Messages []turn `parquet:"messages,list"`
}

func ptr[T any](v T) *T { return &v }

func written[T any](t testing.TB, codec parquet.WriterOption, rows ...T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, codec)
	_, err := w.Write(rows)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func chats(t *testing.T, rows ...chat) string {
	t.Helper()
	return string(written(t, parquet.Compression(&parquet.Snappy), rows...))
}

// hugeFooter was found by fuzzing: the decoder allocated 2 GiB for it.
const hugeFooter = "PAR1\x15\x06\x15\x14\xff\xff\xff\x7fPAR1"

func good() chat {
	return chat{Messages: []turn{{ptr("What is the capital of France?"), ptr("user")}, {ptr("Paris"), ptr("assistant")}}}
}

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, []byte(body), 0o600))
	}
	return dir
}

func TestInspectAccepts(t *testing.T) {
	many := make([]chat, 1000)
	for i := range many {
		many[i] = good()
	}
	for name, c := range map[string]struct {
		files   map[string]string
		columns dataset.Columns
		format  dataset.Format
		kind    dataset.Kind
		rows    int64
	}{
		"conversations in parquet":       {map[string]string{"data/train-00000-of-00001.parquet": chats(t, many...)}, dataset.Columns{}, dataset.Parquet, dataset.Messages, 1000},
		"conversations in JSON lines":    {map[string]string{"a.jsonl": `{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}` + "\n\n"}, dataset.Columns{}, dataset.JSONL, dataset.Messages, 1},
		"a tool call without content":    {map[string]string{"a.jsonl": `{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{}]}]}`}, dataset.Columns{}, dataset.JSONL, dataset.Messages, 1},
		"prompt and completion":          {map[string]string{"a.json": `[{"prompt":"p","completion":"c"}, {"prompt":"","completion":"c"}]`}, dataset.Columns{}, dataset.JSON, dataset.PromptCompletion, 2},
		"prompt and completion as turns": {map[string]string{"a.jsonl": `{"prompt":[{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}]}`}, dataset.Columns{}, dataset.JSONL, dataset.PromptCompletion, 1},
		"text in CSV with a BOM":         {map[string]string{"a.csv": "\xef\xbb\xbftext,n\n\"one, two\nthree\",1\nfour,2\n"}, dataset.Columns{}, dataset.CSV, dataset.Text, 2},
		"JSON that is lines after all":   {map[string]string{"a.json": "{\"text\":\"a\"}\n{\"text\":\"b\"}\n"}, dataset.Columns{}, dataset.JSON, dataset.Text, 2},
		"named columns":                  {map[string]string{"a.csv": "question,answer\nq,a\n"}, dataset.Columns{Prompt: "question", Completion: "answer"}, dataset.CSV, dataset.PromptCompletion, 1},
		"ShareGPT's":                     {map[string]string{"a.jsonl": `{"id":"1","conversations":[{"from":"system","value":"s"},{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}`}, dataset.Columns{}, dataset.JSONL, dataset.Messages, 1},
		"Alpaca's":                       {map[string]string{"a.json": `[{"instruction":"i","input":"","output":"o"},{"instruction":"i","input":"x","output":"o"},{"instruction":"i","input":null,"output":"o"}]`}, dataset.Columns{}, dataset.JSON, dataset.PromptCompletion, 3},
		"instruction and response":       {map[string]string{"a.jsonl": `{"instruction":"i","response":"o"}`}, dataset.Columns{}, dataset.JSONL, dataset.PromptCompletion, 1},
		"several files":                  {map[string]string{"a.jsonl": `{"text":"a"}`, "sub/b.jsonl": `{"text":"b"}`, "README.md": "x", ".cache/c.jsonl": "junk", "dataset_infos.json": "{}"}, dataset.Columns{}, dataset.JSONL, dataset.Text, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := dataset.Inspect(write(t, c.files), "", c.columns)
			require.NoError(t, err)
			assert.Equal(t, c.format, r.Format)
			assert.Equal(t, c.kind, r.Schema.Kind)
			assert.Equal(t, c.rows, r.Rows)
			sum := int64(0)
			for _, b := range r.Tokens.Buckets {
				sum += b.Rows
			}
			assert.Equal(t, r.Rows, sum, "every row is in one bucket")
		})
	}
}

func TestFilesOfOtherSplitsAreNotTrainedOn(t *testing.T) {
	row := `{"text":"a"}`
	for name, c := range map[string]struct{ files, heldOut []string }{
		"beside a training file":  {[]string{"train.jsonl"}, []string{"test.jsonl", "validation.jsonl"}},
		"beside any other file":   {[]string{"data.jsonl"}, []string{"data_eval.jsonl", "my.dev.jsonl"}},
		"in folders":              {[]string{"a/train/0.jsonl"}, []string{"a/val/0.jsonl"}},
		"numbered":                {[]string{"train-00000-of-00001.jsonl"}, []string{"test-00000-of-00001.jsonl", "valid1.jsonl"}},
		"words in words":          {[]string{"contest.jsonl", "developers.jsonl", "latest.jsonl"}, nil},
		"a part of the training":  {[]string{"train_test_a.jsonl", "x.jsonl"}, nil},
		"nothing but a test file": {[]string{"test.jsonl"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for _, file := range slices.Concat(c.files, c.heldOut) {
				files[file] = row
			}
			dir := write(t, files)
			r, err := dataset.Inspect(dir, "", dataset.Columns{})
			require.NoError(t, err)
			assert.ElementsMatch(t, c.files, r.Files)
			assert.ElementsMatch(t, c.heldOut, r.HeldOut)
			assert.EqualValues(t, len(c.files), r.Rows)
		})
	}
}

func TestInspectNamesTheFirstBadRow(t *testing.T) {
	half := chats(t, good())
	for name, c := range map[string]struct {
		files   map[string]string
		columns dataset.Columns
		row     int64
		says    string
	}{
		"a role that no template knows":        {map[string]string{"a.jsonl": "{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}\n{\"messages\":[{\"role\":\"human\",\"content\":\"x\"}]}\n"}, dataset.Columns{}, 2, `messages[0].role is "human"`},
		"null content in parquet":              {map[string]string{"a.parquet": chats(t, good(), good(), chat{Messages: []turn{{nil, ptr("user")}}})}, dataset.Columns{}, 3, "messages[0].content is missing or null"},
		"no turn of the assistant":             {map[string]string{"a.jsonl": `{"messages":[{"role":"user","content":"x"}]}`}, dataset.Columns{}, 1, "assistant"},
		"an empty conversation":                {map[string]string{"a.parquet": chats(t, good(), chat{})}, dataset.Columns{}, 2, "empty list"},
		"a conversation that is text":          {map[string]string{"a.csv": "messages\n\"[{}]\"\n"}, dataset.Columns{}, 1, "a list of {role, content}"},
		"unknown columns":                      {map[string]string{"a.csv": "ask,say\ni,o\n"}, dataset.Columns{}, 1, "ask, say"},
		"text that would be lost":              {map[string]string{"a.jsonl": `{"instruction":"i","input":"","output":"o"}` + "\n" + `{"instruction":"i","input":"x","output":"o"}`}, dataset.Columns{Prompt: "instruction", Completion: "output"}, 2, "remove context_column and response_column"},
		"an input that is a list":              {map[string]string{"a.jsonl": `{"instruction":"i","input":[1],"output":"o"}`}, dataset.Columns{}, 1, "a list"},
		"a page of HTML":                       {map[string]string{"a.jsonl": "<!DOCTYPE html>\n<html>"}, dataset.Columns{}, 0, "page of HTML"},
		"a pointer":                            {map[string]string{"a.parquet": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"}, dataset.Columns{}, 0, "pointer of Git LFS"},
		"another encoding":                     {map[string]string{"a.csv": "text\nb\ncaf\xe9\n"}, dataset.Columns{}, 2, "not UTF-8"},
		"half a character":                     {map[string]string{"a.jsonl": `{"text":"\ud83d\ude00 \\ud83d"}` + "\n" + `{"text":"\ud83d"}`}, dataset.Columns{}, 2, `\ud83d`},
		"another speaker":                      {map[string]string{"a.jsonl": `{"conversations":[{"from":"observation","value":"v"}]}`}, dataset.Columns{}, 1, "observation"},
		"a missing named column":               {map[string]string{"a.csv": "text\nt\n"}, dataset.Columns{Messages: "conv"}, 1, `"conv"`},
		"an empty completion":                  {map[string]string{"a.jsonl": "{\"prompt\":\"p\",\"completion\":\"c\"}\n{\"prompt\":\"p\",\"completion\":\" \"}"}, dataset.Columns{}, 2, `"completion" is empty`},
		"a null text":                          {map[string]string{"a.jsonl": "{\"text\":\"x\"}\n{\"text\":null}"}, dataset.Columns{}, 2, `"text" is missing or null`},
		"a number for a text":                  {map[string]string{"a.jsonl": `{"text":3}`}, dataset.Columns{}, 1, "a number"},
		"a line that is not JSON":              {map[string]string{"a.jsonl": "{\"text\":\"a\"}\n{\"text\":\n"}, dataset.Columns{}, 2, "not a JSON object"},
		"an array that is cut":                 {map[string]string{"a.json": `[{"text":"a"},{"text":"b"}`}, dataset.Columns{}, 3, "array"},
		"a CSV row with too many fields":       {map[string]string{"a.csv": "text\na\nb,c\n"}, dataset.Columns{}, 2, "not CSV"},
		"a truncated parquet file":             {map[string]string{"a.parquet": half[:len(half)-9]}, dataset.Columns{}, 0, "parquet"},
		"a footer longer than its file":        {map[string]string{"a.parquet": hugeFooter}, dataset.Columns{}, 0, "2147483647 bytes according to its end"},
		"a web page named like a parquet file": {map[string]string{"a.parquet": "<html>not found</html>"}, dataset.Columns{}, 0, "parquet"},
		"files of two formats":                 {map[string]string{"a.jsonl": `{"text":"a"}`, "b.csv": "text\nb\n"}, dataset.Columns{}, 0, "use one format"},
		"files of two schemas":                 {map[string]string{"a.jsonl": `{"text":"a"}`, "b.jsonl": `{"prompt":"p","completion":"c"}`}, dataset.Columns{}, 1, `"text" is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dataset.Inspect(write(t, c.files), "", c.columns)
			require.Error(t, err)
			var bad *dataset.BadRowError
			require.ErrorAs(t, err, &bad)
			assert.Equal(t, c.row, bad.Row)
			assert.ErrorContains(t, err, c.says)
			f := fault.Of(err, "Unsorted")
			assert.Equal(t, tuningv1alpha1.ReasonDatasetInvalid, f.Reason)
			assert.True(t, f.Permanent)
		})
	}
}

func TestInspectRefusesEmptyDatasets(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no files":       {"README.md": "x"},
		"an empty file":  {"a.jsonl": ""},
		"only a heading": {"a.csv": "text\n"},
		"an empty array": {"a.json": "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dataset.Inspect(write(t, files), "", dataset.Columns{})
			require.Error(t, err)
			assert.True(t, fault.Of(err, "").Permanent)
		})
	}
}

func TestInspectWithAPath(t *testing.T) {
	dir := write(t, map[string]string{"a.jsonl": `{"text":"a"}`, "sub/b.jsonl": `{"prompt":"p","completion":"c"}`})
	for path, kind := range map[string]dataset.Kind{"a.jsonl": dataset.Text, "sub": dataset.PromptCompletion, "sub/b.jsonl": dataset.PromptCompletion} {
		r, err := dataset.Inspect(dir, path, dataset.Columns{})
		require.NoError(t, err, path)
		assert.Equal(t, kind, r.Schema.Kind)
		assert.Len(t, r.Files, 1)
	}
	for path, says := range map[string]string{"none.jsonl": "\"none.jsonl\" does not exist", "../x": "outside of the dataset"} {
		_, err := dataset.Inspect(dir, path, dataset.Columns{})
		require.ErrorContains(t, err, says)
		assert.True(t, fault.Of(err, "").Permanent)
	}
}

func TestDigestIsThatOfSha256sum(t *testing.T) {
	r, err := dataset.Inspect(
		write(t, map[string]string{"b.jsonl": `{"text":"b"}`, "a.jsonl": `{"text":"a"}`}),
		"",
		dataset.Columns{},
	)
	require.NoError(t, err)
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	want := sum(fmt.Sprintf("%s  a.jsonl\n%s  b.jsonl\n", sum(`{"text":"a"}`), sum(`{"text":"b"}`)))
	assert.Equal(t, "sha256:"+want, r.Digest)
}

func TestTokenEstimate(t *testing.T) {
	line := func(s string) string { return fmt.Sprintf("{\"text\":%q}\n", s) }
	body := line("abcd") + line("abcde") + line("日本") + line(strings.Repeat("a", 4*200)) + line(
		strings.Repeat("b", 4*200_000),
	)
	r, err := dataset.Inspect(write(t, map[string]string{"a.jsonl": body}), "", dataset.Columns{})
	require.NoError(t, err)
	assert.Equal(t, dataset.Rule, r.Tokens.Rule)
	assert.EqualValues(t, 1+2+2+200+200_000, r.Tokens.Sum)
	assert.EqualValues(t, 2, r.Tokens.P50)
	assert.EqualValues(t, 200_000, r.Tokens.P95)
	assert.EqualValues(t, 200_000, r.Tokens.Max)
	got := map[int64]int64{}
	for _, b := range r.Tokens.Buckets {
		if b.Rows > 0 {
			got[b.UpTo] = b.Rows
		}
	}
	assert.Equal(t, map[int64]int64{64: 3, 256: 1, 0: 1}, got)
}

func TestInspectNeverPanicsOnBytes(t *testing.T) {
	whole := chats(t, good(), good())
	rapid.Check(t, func(r *rapid.T) {
		raw := []byte(whole)
		for range rapid.IntRange(1, 8).Draw(r, "flips") {
			raw[rapid.IntRange(0, len(raw)-1).Draw(r, "at")] = rapid.Byte().Draw(r, "byte")
		}
		name := rapid.SampledFrom([]string{"a.parquet", "a.jsonl", "a.json", "a.csv"}).Draw(r, "name")
		dir, err := os.MkdirTemp(t.TempDir(), "")
		require.NoError(r, err)
		require.NoError(r, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
		if _, err := dataset.Inspect(dir, "", dataset.Columns{}); err != nil {
			assert.True(r, fault.Of(err, "").Permanent, "a damaged file stays damaged: %v", err)
		}
	})
}
