// SPDX-License-Identifier: Apache-2.0

package sources

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/parquet-go/parquet-go"
)

// conversationsFile is a dataset's one file.
const conversationsFile = "data/train-00000-of-00001.parquet"

// Conversations is how many rows a dataset has.
const Conversations = 64

// contents of a repository, by path.
func contents(kind, repository string) (map[string][]byte, bool) {
	switch kind {
	case "models":
		return map[string][]byte{
			"config.json": object(
				map[string]any{
					"model_type":    "llama",
					"architectures": []string{"LlamaForCausalLM"},
					"hidden_size":   8,
					"_name_or_path": repository,
				},
			),
			"tokenizer.json": object(
				map[string]any{
					"version": "1.0",
					"model":   map[string]any{"type": "BPE", "vocab": map[string]int{"a": 0}, "merges": []string{}},
				},
			),
			"tokenizer_config.json": object(map[string]any{"tokenizer_class": "PreTrainedTokenizerFast"}),
			"model.safetensors":     Safetensors("model.embed_tokens.weight", 256),
		}, true
	case "datasets":
		return map[string][]byte{conversationsFile: conversations()}, true
	}
	return nil, false
}

func object(fields map[string]any) []byte {
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err) // maps of text and numbers always marshal
	}
	return text
}

// Safetensors is a file in that format with one tensor of so many 32-bit numbers: the header's length (eight bytes,
// little endian), the header (JSON), the data (https://github.com/huggingface/safetensors#format).
func Safetensors(name string, numbers int) []byte {
	header := object(
		map[string]any{name: map[string]any{"dtype": "F32", "shape": []int{numbers}, "data_offsets": []int{0, 4 * numbers}}},
	)
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	out = append(out, header...)
	for i := range numbers {
		out = binary.LittleEndian.AppendUint32(out, uint32(i)) //nolint:gosec // small
	}
	return out
}

type turn struct {
	Role    string `parquet:"role"`
	Content string `parquet:"content"`
}

type conversation struct {
	Messages []turn `parquet:"messages,list"`
}

// conversations are instruction-following examples in the shape of the dataset that the quick start names.
func conversations() []byte {
	var out bytes.Buffer
	writer := parquet.NewGenericWriter[conversation](&out, parquet.Compression(&parquet.Snappy))
	for i := range Conversations {
		_, err := writer.Write([]conversation{{Messages: []turn{
			{
				"system",
				"You are a helpful assistant.",
			},
			{"user", fmt.Sprintf("What is number %d?", i)},
			{"assistant", fmt.Sprintf("It is %d.", i)},
		}}})
		if err != nil {
			panic(err) // a buffer takes everything
		}
	}
	if err := writer.Close(); err != nil {
		panic(err) // a buffer takes everything
	}
	return out.Bytes()
}
