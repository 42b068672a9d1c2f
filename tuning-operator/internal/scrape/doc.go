// SPDX-License-Identifier: Apache-2.0

// Package scrape requests the progress of running pods in the background. The pods have no token to write it to the API
// server, and the reconciler must not wait for them. New progress starts another reconcile.
package scrape
