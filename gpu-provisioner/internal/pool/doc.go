// SPDX-License-Identifier: Apache-2.0

// Package pool creates, grows, shrinks and deletes agent pools so that every NodeClaim has one machine and every
// machine has one NodeClaim. Engine.Pass reads Azure and the claims, calls Decide, and carries out its actions. Decide
// is a pure function.
package pool
