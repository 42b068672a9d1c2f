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

// keyRing has the API keys of a mounted file, and reloads them when the file changes.
//
// It checks the file when a request arrives, at most once per keyCheckEvery, and reads it again if it is another file.
// The kubelet updates a Secret's volume by replacing a symbolic link, which results in another file.
type keyRing struct {
	path   string
	clock  clock.PassiveClock
	logger *slog.Logger
	// onReload is called after each attempt to read a changed file.
	onReload func(err error)

	// keys has the digests of the keys. A comparison of digests reveals neither the length nor a prefix of a key.
	keys atomic.Pointer[[][sha256.Size]byte]

	checkMu   sync.Mutex
	nextCheck atomic.Int64 // Unix nanoseconds
	seen      os.FileInfo
}

// keyCheckEvery is the minimum time between checks of the file, and the maximum time that a revoked key is valid.
const keyCheckEvery = time.Second

// newKeyRing reads path. It returns an error if the file is unreadable or has no key, so that a gateway that requires
// keys does not start without them.
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
		return nil, fmt.Errorf("api-key-file %s has no key: write one key per line", path)
	}
	k.keys.Store(&keys)
	k.seen = info
	k.nextCheck.Store(c.Now().Add(keyCheckEvery).UnixNano())
	return k, nil
}

// allows reports whether r has one of the keys: as bearer token, which OpenAI's clients send, or as X-Api-Key, which
// Anthropic's send.
func (k *keyRing) allows(r *http.Request) bool {
	k.refresh()
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") && k.has(token) {
		return true
	}
	token = r.Header.Get("X-Api-Key")
	return token != "" && k.has(token)
}

func (k *keyRing) has(token string) bool {
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for _, key := range *k.keys.Load() {
		// No early return: the duration must not reveal which key was similar.
		found |= subtle.ConstantTimeCompare(sum[:], key[:])
	}
	return found == 1
}

// refresh reads the file again if it changed. Of several concurrent requests, one checks the file and the others use
// the current keys. If the file is unreadable, the keys are unchanged; if it has no keys, all are revoked.
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

// sameFile reports whether two results of Stat are the same unchanged file.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// maxKeyFileBytes is the maximum size of the file, which is that of a Secret.
const maxKeyFileBytes = 1 << 20

// readKeys returns the digests of the keys in path, one per line, without surrounding space. It skips empty lines and
// lines that begin with #.
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
