// SPDX-License-Identifier: Apache-2.0

package ranks

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Lines of the protocol. A follower says hello; the leader answers start when all ranks are there, or refused and why.
// An empty line is a sign of life.
const (
	helloFormat = "kaito-ranks/1 rank=%d nodes=%d"
	lineStart   = "start"
	lineRefused = "refused "
	// maxLine bounds a line, in bytes.
	maxLine = 256
)

// link is a connection between two supervisors.
type link struct {
	conn          net.Conn
	reader        *bufio.Reader
	beat, silence time.Duration

	writing sync.Mutex
	once    sync.Once
	closed  chan struct{}
}

func newLink(conn net.Conn, c Config) *link {
	return &link{
		conn: conn, reader: bufio.NewReaderSize(conn, maxLine), beat: c.Beat, silence: c.Silence,
		closed: make(chan struct{}),
	}
}

// write sends a line.
func (l *link) write(line string) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.silence)); err != nil {
		return err
	}
	_, err := io.WriteString(l.conn, line+"\n")
	return err
}

// keepAlive sends signs of life until the link is closed or broken.
func (l *link) keepAlive() {
	ticker := time.NewTicker(l.beat)
	defer ticker.Stop()
	for {
		select {
		case <-l.closed:
			return
		case <-ticker.C:
			if l.write("") != nil {
				l.close() // the reader hears of it
				return
			}
		}
	}
}

// read returns the next line that is more than a sign of life.
func (l *link) read() (string, error) {
	for {
		if err := l.conn.SetReadDeadline(time.Now().Add(l.silence)); err != nil {
			return "", err
		}
		line, err := l.reader.ReadSlice('\n')
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return "", fmt.Errorf("no sign of life for %s", l.silence)
		case errors.Is(err, io.EOF):
			return "", errors.New("the connection was closed")
		case err != nil:
			return "", err
		}
		if text := strings.TrimSpace(string(line)); text != "" {
			return text, nil
		}
	}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.closed)
		_ = l.conn.Close() // nothing is buffered
	})
}
