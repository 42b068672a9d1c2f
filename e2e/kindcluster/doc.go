// SPDX-License-Identifier: Apache-2.0

// Package kindcluster makes kind clusters with machines to spare: containers that run a kubelet but have not joined.
// They are what a fake cloud boots.
package kindcluster
