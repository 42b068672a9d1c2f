// SPDX-License-Identifier: Apache-2.0

// Package tuning asks for a fine-tuning run by a TuningJob, and reads what became of it. Another operator does the
// work.
package tuning
