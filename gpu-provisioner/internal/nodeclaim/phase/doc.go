// SPDX-License-Identifier: Apache-2.0

// Package phase measures how long NodeClaims take to launch, register, initialize and terminate.
package phase
