// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

const (
	// Loopback is the address of the ports that are chosen here.
	Loopback = "127.0.0.1"
	// Ports are below the range that Linux uses for outgoing connections (32768 and up), which could take a port between
	// its choice and its use.
	lowestPort, highestPort = 20000, 32000
	// portTries bounds the search for free ports.
	portTries = 1000
	// startTries is how often a start is tried whose port another process takes.
	startTries = 3
)

// FreePorts returns distinct loopback ports without a listener. Another process may still take one before its use:
// then the process that wanted it fails with ErrPortTaken.
func FreePorts(count int) ([]int, error) {
	var ports []int
	var lastError error
	for tries := 0; len(ports) < count && tries < portTries; tries++ {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		listener, err := net.Listen("tcp", Address(port))
		if err != nil {
			lastError = err
			continue
		}
		defer func() { _ = listener.Close() }() // open until all ports are found, so that they differ
		ports = append(ports, port)
	}
	if len(ports) < count {
		return nil, fmt.Errorf(
			"no %d free ports between %d and %d on %s: %w", count, lowestPort, highestPort, Loopback, lastError,
		)
	}
	return ports, nil
}

// FreeAddresses returns distinct loopback addresses, host and port, without a listener. See FreePorts.
func FreeAddresses(count int) ([]string, error) {
	ports, err := FreePorts(count)
	if err != nil {
		return nil, err
	}
	addresses := make([]string, 0, count)
	for _, port := range ports {
		addresses = append(addresses, Address(port))
	}
	return addresses, nil
}

// Address is the loopback address of a port.
func Address(port int) string { return net.JoinHostPort(Loopback, strconv.Itoa(port)) }

// RetryPortTaken calls start, and calls it again if it fails with ErrPortTaken. Each call must choose its ports anew.
func RetryPortTaken(ctx context.Context, start func() error) error {
	for try := 1; ; try++ {
		err := start()
		if try == startTries || !errors.Is(err, ErrPortTaken) || ctx.Err() != nil {
			return err
		}
	}
}
