// SPDX-License-Identifier: Apache-2.0

// Package flow runs a reconciler's steps over a shared scope. The list of steps documents the reconciler.
package flow
