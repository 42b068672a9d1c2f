// SPDX-License-Identifier: Apache-2.0

// Package spdx has the parts of an SPDX 2.3 document that this repository writes
// (https://spdx.github.io/spdx-spec/v2.3).
package spdx
