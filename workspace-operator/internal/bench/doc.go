// SPDX-License-Identifier: Apache-2.0

// Package bench measures what the operator costs beside a floor: a client that makes only the calls that no operator
// can do without (finalizer, claim, Service, Deployment, two status writes). Both run as processes of their own, one
// after the other, against the same API server, with the same client limits, while the test plays the provisioner and
// the Deployment controller without any delay; so the time to Ready is time in the operator and the API server.
//
//	go test ./internal/bench -v -args -n=100 -qps=500 -burst=1000
package bench
