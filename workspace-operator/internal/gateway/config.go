// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// PromptAPI names the engine call that a /chat prompt becomes.
type PromptAPI string

const (
	// PromptAPIChat wraps the prompt into one user message, so that the model's chat template is applied.
	PromptAPIChat PromptAPI = "chat"
	// PromptAPICompletions hands the prompt to the model as it is: the choice for base models, which have no chat
	// template.
	PromptAPICompletions PromptAPI = "completions"
)

// Config is what the gateway is started with. DefaultConfig gives every value but Model.
type Config struct {
	// Listen is the address clients reach.
	Listen string
	// StatusListen is the address of /healthz, /readyz, /metrics and /drained, which only the cluster reaches.
	StatusListen string
	// Engine is the engine's root, scheme and host only.
	Engine string
	// Model is the served name that /chat asks for and that must be listed before the gateway is ready.
	Model string
	// PromptAPI chooses what a /chat prompt becomes.
	PromptAPI PromptAPI
	// APIKeyFile holds one key a line. Empty means that no key is asked for.
	APIKeyFile string

	// MaxBodyBytes bounds a request's body.
	MaxBodyBytes int64
	// MaxConcurrent bounds the requests that the engine works on; MaxQueue those that wait for a place.
	MaxConcurrent int
	MaxQueue      int
	// QueueTimeout bounds the wait for a place.
	QueueTimeout time.Duration

	// RequestTimeout bounds an answer that is not streamed, from the moment the engine has the request.
	RequestTimeout time.Duration
	// StreamTimeout bounds a streamed answer, from its first byte. Zero means unbounded.
	StreamTimeout time.Duration
	// ReadHeaderTimeout and ReadTimeout bound how long a client may take to send its headers and its body.
	ReadHeaderTimeout time.Duration
	ReadTimeout       time.Duration
	// WriteTimeout bounds how long a client may leave one chunk of an answer unread.
	WriteTimeout time.Duration
	// IdleTimeout bounds how long a kept-alive connection may stay unused.
	IdleTimeout time.Duration

	// DrainDelay is how long, after a stop is asked for, new requests are still taken while /readyz already says no:
	// the time a cluster needs to take the address out of its endpoints. It counts against DrainTimeout.
	DrainDelay time.Duration
	// DrainTimeout bounds the whole stop; what still runs then is cut off.
	DrainTimeout time.Duration
}

// DefaultConfig returns the values that apply where none is given.
func DefaultConfig() Config {
	return Config{
		Listen:       ":5000",
		StatusListen: ":5001",
		Engine:       "http://127.0.0.1:8000",
		PromptAPI:    PromptAPIChat,
		// Room for a few images or half an hour of compressed speech in one request.
		MaxBodyBytes: 32 << 20,
		// vLLM's own default for max-num-seqs in its API server is 256: more would only wait inside the engine.
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

// Validate returns every problem of c at once, each naming the field, its value and what is allowed.
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
