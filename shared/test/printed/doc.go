// SPDX-License-Identifier: Apache-2.0

// Package printed keeps the output of a program while a test reads it.
package printed
