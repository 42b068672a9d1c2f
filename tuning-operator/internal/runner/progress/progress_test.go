// SPDX-License-Identifier: Apache-2.0

package progress_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	clocktesting "k8s.io/utils/clock/testing"

	"kaito.sh/tuning-operator/internal/runner/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLinesAreLimitedAndEndpointIsCurrent(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(1700000000, 0))
	var out bytes.Buffer
	r := progress.New("fetch", &out, clk)
	r.Expect(1000)
	for range 10 {
		r.Advance("data.parquet", 25)
	}
	assert.Equal(t, 1, strings.Count(out.String(), "\n"), "ten reports in one instant are one line")
	assert.EqualValues(t, 250, r.Latest().Bytes, "the endpoint sees them all")

	clk.Step(2 * time.Second)
	r.Advance("data.parquet", 250)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 2)
	var got progress.Line
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &got))
	assert.Equal(
		t,
		progress.Line{
			Time:       clk.Now().UTC(),
			Step:       "fetch",
			Event:      "progress",
			Item:       "data.parquet",
			Bytes:      500,
			TotalBytes: 1000,
			Percent:    50,
		},
		got,
	)
}

func TestServeEndsWithItsContext(t *testing.T) {
	r := progress.New("push", &bytes.Buffer{}, clocktesting.NewFakeClock(time.Unix(1700000000, 0)))
	ctx, cancel := context.WithCancel(context.Background())
	addr, wait, err := r.Serve(ctx, "127.0.0.1:0")
	require.NoError(t, err)
	r.Event("pushed", "done", map[string]any{"digest": "sha256:x"})

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + addr + "/progress")
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	var got progress.Line
	require.NoError(t, json.NewDecoder(res.Body).Decode(&got))
	assert.Equal(t, "pushed", got.Event)
	assert.Equal(t, "sha256:x", got.Fields["digest"])
	cancel()
	assert.NoError(t, wait())
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	assert.Error(t, err, "the server has stopped")
}
