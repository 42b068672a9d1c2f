// SPDX-License-Identifier: Apache-2.0

package engine

import "kaito.sh/workspace-operator/internal/configfile"

// ConfigFile is the key of the ConfigMap that an inference section names.
const ConfigFile = "inference_config.yaml"

// Config is the user's configuration of an engine.
type Config struct {
	// Section of the file that was read.
	Section string
	// MaxModelLen is the context that the user wants, in tokens; 0: the plan decides.
	MaxModelLen int
	// Utilization is the share of GPU memory that the engine may use; 0: the catalogue's.
	Utilization float64
	// KVDtype, Quantization and Dtype are empty where the plan decides.
	KVDtype, Quantization, Dtype string
	// BatchTokens is the most that the engine computes at once; 0: its default.
	BatchTokens int
	// CacheBytes and CacheBlocks set the size of the KV cache on each GPU; 0: it takes what the plan leaves.
	CacheBytes, CacheBlocks int
	// Passed are all other flags, as Engine.Flags returns them.
	Passed Flags
}

// Wrong returns an error about a key of the section.
func (c Config) Wrong(key, format string, args ...any) *configfile.Error {
	return configfile.Wrong(ConfigFile, c.Section+"."+key, format, args...)
}
