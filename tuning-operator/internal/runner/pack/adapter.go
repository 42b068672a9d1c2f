// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// The files of a PEFT adapter, with PEFT's names.
const (
	AdapterConfig  = "adapter_config.json"
	AdapterWeights = "adapter_model.safetensors"
)

// ChatTemplate is the file of the template that the adapter was trained with, where there is one. Its name is that of
// transformers.
const ChatTemplate = "chat_template.jinja"

// CheckAdapter returns an error for a folder that no engine could load: a missing file, an invalid configuration, or
// truncated weights. Callers check before they push.
func CheckAdapter(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, AdapterConfig))
	if err != nil {
		return missing(err, dir, AdapterConfig)
	}
	var config struct {
		PeftType string `json:"peft_type"`
	}
	if err := json.Unmarshal(raw, &config); err != nil || config.PeftType == "" {
		return fault.Permanent(
			tuningv1alpha1.ReasonOutputInvalid, "%s in %s is not a PEFT configuration: peft_type is missing", AdapterConfig, dir,
		)
	}
	return checkSafetensors(filepath.Join(dir, AdapterWeights), dir)
}

func missing(err error, dir, name string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Permanent(tuningv1alpha1.ReasonOutputInvalid, "adapter folder %s has no %s", dir, name)
	}
	return fmt.Errorf("reading the adapter: %w", err)
}

// maxHeaderBytes is the limit of the safetensors format (100 MB).
const maxHeaderBytes = 100 << 20

// checkSafetensors compares the length of a file with its header. The format
// (https://github.com/huggingface/safetensors#format) has eight bytes for the length of the header, the header as JSON
// with the offsets of each tensor, and the data.
func checkSafetensors(path, dir string) error {
	in, err := os.Open(path)
	if err != nil {
		return missing(err, dir, filepath.Base(path))
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("reading the adapter: %w", err)
	}
	bad := func(why string) error {
		return fault.Permanent(tuningv1alpha1.ReasonOutputInvalid, "%s is not a complete safetensors file: %s", path, why)
	}
	var length uint64
	if err := binary.Read(in, binary.LittleEndian, &length); err != nil || length > maxHeaderBytes ||
		int64(length)+8 > info.Size() { // bounded by maxHeaderBytes
		return bad("its header is truncated")
	}
	raw := make([]byte, length)
	if _, err := io.ReadFull(in, raw); err != nil {
		return bad("its header is truncated")
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(raw, &header); err != nil {
		return bad("its header is not JSON")
	}
	end, tensors := int64(0), 0
	for name, entry := range header {
		if name == "__metadata__" {
			continue
		}
		var t struct {
			Offsets [2]int64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(entry, &t); err != nil {
			return bad("the entry of " + name + " is unreadable")
		}
		tensors++
		end = max(end, t.Offsets[1])
	}
	if tensors == 0 {
		return bad("it has no tensor")
	}
	if want := 8 + int64(length) + end; want != info.Size() { // bounded by maxHeaderBytes
		return bad(fmt.Sprintf("it has %d bytes, but %d according to its header", info.Size(), want))
	}
	return nil
}
