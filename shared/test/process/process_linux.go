// SPDX-License-Identifier: Apache-2.0

package process

import "syscall"

// childAttributes puts a child into a process group of its own, so that Ctrl-C in a terminal reaches only us and we end
// the children in order; and has the kernel end it when the thread that started it ends, so that nothing outlives a
// test that panics or is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
