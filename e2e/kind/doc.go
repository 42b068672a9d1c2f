// SPDX-License-Identifier: Apache-2.0

// Package kind holds the suite that runs on a kind cluster: the operators in pods, installed by their kustomizations
// from images that `make images` has built, real kubelets that join as the fake cloud boots machines, and a real
// gateway before a simulated engine in each pod. `make e2e-kind` runs it; it needs Docker.
package kind
