// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryProblemOfAConfigurationIsNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no address":                  {func(c *Config) { c.Listen = "" }, `listen is ""`},
		"an engine with a path":       {func(c *Config) { c.Engine = "http://127.0.0.1:8000/v1" }, `engine is "http://127.0.0.1:8000/v1"`},
		"an engine without a scheme":  {func(c *Config) { c.Engine = "127.0.0.1:8000" }, "scheme and host only"},
		"an engine with a password":   {func(c *Config) { c.Engine = "http://a:b@127.0.0.1:8000" }, "scheme and host only"},
		"no model":                    {func(c *Config) { c.Model = "" }, `model is ""`},
		"one port for two":            {func(c *Config) { c.StatusListen = c.Listen }, `status-listen is ":5000"`},
		"another call":                {func(c *Config) { c.PromptAPI = "text" }, `"chat" or "completions"`},
		"no body":                     {func(c *Config) { c.MaxBodyBytes = 0 }, "max-body-bytes"},
		"no place":                    {func(c *Config) { c.MaxConcurrent = 0 }, "max-concurrent"},
		"a queue of less than none":   {func(c *Config) { c.MaxQueue = -1 }, "max-queue"},
		"no time for an answer":       {func(c *Config) { c.RequestTimeout = 0 }, `request-timeout is "0s"`},
		"no time for a body":          {func(c *Config) { c.ReadTimeout = -1 }, "read-timeout"},
		"a stream of less than none":  {func(c *Config) { c.StreamTimeout = -1 }, "stream-timeout"},
		"a delay as long as the stop": {func(c *Config) { c.DrainDelay = c.DrainTimeout }, "less than drain-timeout (30s)"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Model = "m"
			require.NoError(t, cfg.Validate())
			tc.change(&cfg)
			_, err := New(cfg, Options{})
			assert.ErrorContains(t, err, tc.says)
		})
	}
	assert.Len(t, unwrap(Config{DrainDelay: time.Second}.Validate()), 15, "all at once")
}

func unwrap(err error) []error { return err.(interface{ Unwrap() []error }).Unwrap() }
