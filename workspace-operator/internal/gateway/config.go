// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// PromptAPI is the engine call for a /chat prompt.
type PromptAPI string

const (
	// PromptAPIChat sends the prompt as one user message, so that the model's chat template is applied.
	PromptAPIChat PromptAPI = "chat"
	// PromptAPICompletions sends the prompt unchanged, for base models, which have no chat template.
	PromptAPICompletions PromptAPI = "completions"
)

// Config is the configuration of the gateway. DefaultConfig sets all values except Model.
type Config struct {
	// Listen is the address for clients.
	Listen string
	// StatusListen is the address of /healthz, /readyz, /metrics and /drained, for use inside the cluster.
	StatusListen string
	// Engine is the engine's root, scheme and host only.
	Engine string
	// Model is the default model of /chat. The gateway is ready when the engine lists it.
	Model string
	// PromptAPI is the engine call for a /chat prompt.
	PromptAPI PromptAPI
	// APIKeyFile is a file with one key per line. If it is empty, no key is required.
	APIKeyFile string

	// MaxBodyBytes is the maximum size of a request's body.
	MaxBodyBytes int64
	// MaxConcurrent is the maximum of requests that run in the engine, MaxQueue that of waiting requests.
	MaxConcurrent int
	MaxQueue      int
	// QueueTimeout is the maximum time in the queue.
	QueueTimeout time.Duration

	// RequestTimeout is the maximum time of an answer that is not streamed, from the call of the engine.
	RequestTimeout time.Duration
	// StreamTimeout is the maximum time of a streamed answer, from its first byte. Zero means no limit.
	StreamTimeout time.Duration
	// ReadHeaderTimeout and ReadTimeout are the maximum times for sending the headers and the body.
	ReadHeaderTimeout time.Duration
	ReadTimeout       time.Duration
	// WriteTimeout is the maximum time that a client may leave a chunk of an answer unread.
	WriteTimeout time.Duration
	// IdleTimeout is the maximum time that a kept-alive connection may be unused.
	IdleTimeout time.Duration

	// DrainDelay is the time after SIGTERM in which the gateway accepts new requests although /readyz fails. The cluster
	// removes the address from its endpoints in that time. It is a part of DrainTimeout.
	DrainDelay time.Duration
	// DrainTimeout is the maximum time of the stop. Requests that still run are then aborted.
	DrainTimeout time.Duration
}

// DefaultConfig returns the default values.
func DefaultConfig() Config {
	return Config{
		Listen:       ":5000",
		StatusListen: ":5001",
		Engine:       "http://127.0.0.1:8000",
		PromptAPI:    PromptAPIChat,
		// Enough for a few images or half an hour of compressed speech in one request.
		MaxBodyBytes: 32 << 20,
		// vLLM's default of max-num-seqs in its API server is 256: more requests would only wait inside the engine.
		MaxConcurrent:     256,
		MaxQueue:          256,
		QueueTimeout:      30 * time.Second,
		RequestTimeout:    10 * time.Minute,
		StreamTimeout:     time.Hour,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		DrainDelay:        5 * time.Second,
		DrainTimeout:      30 * time.Second,
	}
}

// Validate returns all errors of c, each with the field, its value and the allowed values.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s is %q: it must be %s", field, fmt.Sprint(value), allowed))
	}
	if c.Listen == "" {
		bad("listen", c.Listen, "an address such as :5000")
	}
	if c.StatusListen == "" || c.StatusListen == c.Listen && !strings.HasSuffix(c.Listen, ":0") {
		bad("status-listen", c.StatusListen, "an address such as :5001, and not the one of listen")
	}
	if _, err := c.engineURL(); err != nil {
		bad("engine", c.Engine, "an http or https URL of scheme and host only, such as http://127.0.0.1:8000")
	}
	if c.Model == "" {
		bad("model", c.Model, "the name under which the engine serves the model")
	}
	if c.PromptAPI != PromptAPIChat && c.PromptAPI != PromptAPICompletions {
		bad("prompt-api", c.PromptAPI, `"chat" or "completions"`)
	}
	if c.MaxBodyBytes < 1 {
		bad("max-body-bytes", c.MaxBodyBytes, "at least 1")
	}
	if c.MaxConcurrent < 1 {
		bad("max-concurrent", c.MaxConcurrent, "at least 1")
	}
	if c.MaxQueue < 0 {
		bad("max-queue", c.MaxQueue, "0 or more")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"queue-timeout", c.QueueTimeout},
		{"request-timeout", c.RequestTimeout},
		{"read-header-timeout", c.ReadHeaderTimeout},
		{"read-timeout", c.ReadTimeout},
		{"write-timeout", c.WriteTimeout},
		{"idle-timeout", c.IdleTimeout},
		{"drain-timeout", c.DrainTimeout},
	} {
		if d.value <= 0 {
			bad(d.name, d.value, "longer than 0s")
		}
	}
	if c.StreamTimeout < 0 {
		bad("stream-timeout", c.StreamTimeout, "0s (unbounded) or longer")
	}
	if c.DrainDelay < 0 || c.DrainDelay >= c.DrainTimeout {
		bad("drain-delay", c.DrainDelay, fmt.Sprintf("from 0s to less than drain-timeout (%s)", c.DrainTimeout))
	}
	return errors.Join(errs...)
}

func (c Config) engineURL() (*url.URL, error) {
	u, err := url.Parse(c.Engine)
	if err != nil {
		return nil, err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || (u.Path != "" && u.Path != "/") ||
		u.RawQuery != "" ||
		u.User != nil {
		return nil, fmt.Errorf("engine %q is not a plain URL of scheme and host", c.Engine)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
