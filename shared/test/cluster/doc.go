// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real Kubernetes control plane on loopback for tests and demonstrations: etcd, the API server
// with RBAC and an audit log, and optionally the controller manager, the scheduler and KWOK, which simulates nodes and
// their pods. It starts in about three seconds, uses free ports, and keeps all files in one folder.
//
// The binaries are those that `make controlplane` installs in bin/k8s. envtest is not used to start processes, because
// it cannot make the kernel end its children with their parent: a test that panics would leave them running.
package cluster
