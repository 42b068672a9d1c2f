// SPDX-License-Identifier: Apache-2.0

package process

import "syscall"

// childAttributes puts a child into its own process group, so that Ctrl-C in a terminal reaches only the parent, which
// stops the children in order. The kernel ends the child with the thread that started it, so that no process outlives a
// test that panics or is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
