// SPDX-License-Identifier: Apache-2.0

// Package rights compares what the operators' roles allow with what the operators have asked the API server for.
package rights
