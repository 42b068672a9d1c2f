// SPDX-License-Identifier: Apache-2.0

// Package dataset checks training data before a GPU is used: whether every row can be read and has a format that the
// trainer supports, and how long the rows are.
package dataset
