// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real Kubernetes control plane on loopback for tests and demonstrations: etcd, the API server
// with RBAC and an audit log, and as asked for the controller manager, the scheduler and KWOK, which keeps simulated
// nodes and the pods on them. It is up in about three seconds, takes free ports, and keeps everything in one folder.
//
// The binaries are those that `make controlplane` puts into bin/k8s. Processes are started here and not by envtest,
// because envtest cannot ask the kernel to end its children with their parent: a test that panics would leave them.
package cluster
