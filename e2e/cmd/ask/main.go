// SPDX-License-Identifier: Apache-2.0

// Command ask is a client in a pod: it posts a prompt to a Workspace's address and prints the answer.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	patience = 30 * time.Second
	// pause between two tries.
	pause = 200 * time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) != 3 {
		_, _ = fmt.Fprintln(
			os.Stderr,
			"usage: ask URL PROMPT, for instance: ask http://10.96.0.7/chat 'What is Kaito?'",
		) // nowhere is left to say that this failed
		os.Exit(2)
	}
	if err := ask(ctx, os.Args[1], os.Args[2], os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "ask:", err) // nowhere is left to say that this failed
		os.Exit(1)
	}
}

func ask(ctx context.Context, url, prompt string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	body, err := json.Marshal(map[string]string{"prompt": prompt})
	if err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	response, err := post(ctx, url, body)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, answer)
	}
	_, err = out.Write(answer)
	return err
}

// post retries refused connections, as curl --retry-connrefused does, because the kube-proxies update a Service's
// endpoints at different times.
func post(ctx context.Context, url string, body []byte) (*http.Response, error) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("making the request: %w", err)
		}
		request.Header.Set("Accept", "application/json")
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return response, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}
