// SPDX-License-Identifier: Apache-2.0

// Package installed installs what the gpu-provisioner needs in a test's cluster: CRDs, namespace, account, the
// generated roles, and the default node class.
package installed
