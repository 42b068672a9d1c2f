// SPDX-License-Identifier: Apache-2.0

// Package events publishes Kubernetes events of the events.k8s.io API with notes that the API server accepts.
package events
