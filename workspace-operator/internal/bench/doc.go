// SPDX-License-Identifier: Apache-2.0

// Package bench compares the operator with a floor: a client that makes only the necessary calls (finalizer, claim,
// Service, Deployment, two status writes). Both run as separate processes, one after the other, against the same API
// server, with the same client limits. The test acts as provisioner and Deployment controller without delay, so the
// time to Ready is the time of the operator and the API server.
//
//	go test ./internal/bench -v -args -n=100 -qps=500 -burst=1000
package bench
