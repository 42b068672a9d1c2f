// SPDX-License-Identifier: Apache-2.0

// Package fault gives the failures of the runner a type. It holds the reason, a constant that reaches the TuningJob's
// status unchanged, and whether another attempt could succeed.
package fault
