// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package process

import "syscall"

// childAttributes puts a child into its own process group, so that Ctrl-C in a terminal reaches only the parent, which
// stops the children in order. Only Linux can also end a child with its parent.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
