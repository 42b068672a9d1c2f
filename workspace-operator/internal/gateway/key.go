// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// keyRing holds the API keys of a mounted file and follows the file's changes.
//
// It looks at the file when a request comes, at most once per keyCheckEvery, and reads it again where it is another
// file than last time. A Secret's volume changes by swapping a symbolic link, which a look that follows links sees as
// another file.
type keyRing struct {
	path   string
	clock  clock.PassiveClock
	logger *slog.Logger
	// onReload hears of every attempt to read a changed file.
	onReload func(err error)

	// keys holds the keys' digests: comparing digests of one length leaks neither a key's length nor its beginning.
	keys atomic.Pointer[[][sha256.Size]byte]

	checkMu   sync.Mutex
	nextCheck atomic.Int64 // Unix nanoseconds
	seen      os.FileInfo
}

// keyCheckEvery bounds how often the file is looked at, and so how long a withdrawn key may still be taken.
const keyCheckEvery = time.Second

// newKeyRing reads path. A file that cannot be read or holds no key is an error: a gateway that was told to ask for
// keys must not start without.
func newKeyRing(path string, c clock.PassiveClock, logger *slog.Logger, onReload func(error)) (*keyRing, error) {
	k := &keyRing{path: path, clock: c, logger: logger, onReload: onReload}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("api-key-file: %w", err)
	}
	keys, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("api-key-file %s holds no key: write one key a line", path)
	}
	k.keys.Store(&keys)
	k.seen = info
	k.nextCheck.Store(c.Now().Add(keyCheckEvery).UnixNano())
	return k, nil
}

// allows says whether r carries one of the keys as a bearer token.
func (k *keyRing) allows(r *http.Request) bool {
	k.refresh()
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for _, key := range *k.keys.Load() {
		// No early end: how long this takes must not tell which key was close.
		found |= subtle.ConstantTimeCompare(sum[:], key[:])
	}
	return found == 1
}

// refresh reads the file again where it changed. Of several requests at once, one looks and the others go on with the
// keys there are. A file that cannot be read leaves the keys as they were; one that is read and holds none withdraws
// all.
func (k *keyRing) refresh() {
	now := k.clock.Now()
	if now.UnixNano() < k.nextCheck.Load() || !k.checkMu.TryLock() {
		return
	}
	defer k.checkMu.Unlock()
	k.nextCheck.Store(now.Add(keyCheckEvery).UnixNano())

	info, err := os.Stat(k.path)
	if err == nil && sameFile(info, k.seen) {
		return
	}
	var keys [][sha256.Size]byte
	if err == nil {
		keys, err = readKeys(k.path)
	}
	k.onReload(err)
	if err != nil {
		k.logger.Error("Keeping the last API keys: their file cannot be read", "error", err)
		return
	}
	k.seen = info
	k.keys.Store(&keys)
	k.logger.Info("Reloaded the API keys", "count", len(keys))
}

// sameFile says whether a look at a file found what an earlier one did.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// maxKeyFileBytes bounds the file: a Secret holds 1 MiB at the most.
const maxKeyFileBytes = 1 << 20

// readKeys returns the digests of path's keys: one a line, without surrounding space; empty lines and lines that
// begin with # do not count.
func readKeys(path string) ([][sha256.Size]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("api-key-file: %w", err)
	}
	if len(data) > maxKeyFileBytes {
		return nil, fmt.Errorf("api-key-file %s has %d bytes: at most %d are read", path, len(data), maxKeyFileBytes)
	}
	keys := [][sha256.Size]byte{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		keys = append(keys, sha256.Sum256(line))
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("a line is longer than %d bytes", bufio.MaxScanTokenSize)
		}
		return nil, fmt.Errorf("api-key-file %s: %w", path, err)
	}
	return keys, nil
}
