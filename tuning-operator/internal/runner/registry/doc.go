// SPDX-License-Identifier: Apache-2.0

// Package registry is the runner's client of OCI registries: it pulls model and dataset images, and pushes adapters.
package registry
