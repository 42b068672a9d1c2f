// SPDX-License-Identifier: Apache-2.0

// Package printed keeps what a program prints while a test reads it.
package printed

import (
	"bytes"
	"sync"
)

// Buffer may be written to and read at the same time. The zero value is empty.
type Buffer struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.Write(p)
}

func (b *Buffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.String()
}

// Reset empties it.
func (b *Buffer) Reset() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.text.Reset()
}
