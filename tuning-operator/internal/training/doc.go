// SPDX-License-Identifier: Apache-2.0

// Package training turns KAITO's training_config.yaml into the trainer's configuration: the keyword arguments of
// transformers' from_pretrained, BitsAndBytesConfig, PEFT's LoraConfig and TRL's SFTConfig. Unknown keys are passed on,
// because those libraries have more keys than a list here could. Contradictions are refused before a GPU is requested.
package training
