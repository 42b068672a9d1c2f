// SPDX-License-Identifier: Apache-2.0

// Package fetch downloads a base model or a dataset: files over https, and HuggingFace repositories.
package fetch
