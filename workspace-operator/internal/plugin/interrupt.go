// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"os"
	"sync"
	"syscall"
)

// interrupts end the innermost operation: an answer in a conversation, or the command. SIGTERM ends the command.
type interrupts struct {
	mutex   sync.Mutex
	cancels []context.CancelFunc
}

// within returns a context that the next interrupt ends. release restores the previous target of interrupts.
func (i *interrupts) within(parent context.Context) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(parent)
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.cancels = append(i.cancels, cancel)
	depth := len(i.cancels)
	return ctx, func() {
		i.mutex.Lock()
		defer i.mutex.Unlock()
		i.cancels = i.cancels[:depth-1]
		cancel()
	}
}

// serve handles signals until ctx ends.
func (i *interrupts) serve(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			i.mutex.Lock()
			last := len(i.cancels) - 1
			if s == syscall.SIGTERM {
				last = 0
			}
			if len(i.cancels) > 0 {
				i.cancels[last]()
			}
			i.mutex.Unlock()
		}
	}
}
