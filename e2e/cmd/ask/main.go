// Command ask is a client in a pod: it posts a prompt to a Workspace's address and prints the answer.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const patience = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) != 3 {
		_, _ = fmt.Fprintln(os.Stderr, "usage: ask URL PROMPT, for instance: ask http://10.96.0.7/chat 'What is Kaito?'") // nowhere is left to say that this failed
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
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
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
