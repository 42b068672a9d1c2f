// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	testclock "k8s.io/utils/clock/testing"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// listener is an engine that remembers conversations, and that answers "hang" without end.
type listener struct{ heard chan []message }

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct{ Messages []message }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"yes\"}}]}\n\n") // the client notices
	_ = http.NewResponseController(w).Flush()
	l.heard <- body.Messages
	if body.Messages[len(body.Messages)-1].Content == "hang" {
		<-r.Context().Done()
		return
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

func TestConversationKeepsHistoryAndInterruptEndsAnswer(t *testing.T) {
	t.Parallel()
	l := &listener{heard: make(chan []message)}
	server := httptest.NewServer(l)
	defer server.Close()
	in, lines := io.Pipe()
	var out, errOut bytes.Buffer
	e := &environment{IOStreams: genericiooptions.IOStreams{In: in, Out: &out, ErrOut: &errOut}, interrupts: &interrupts{}}
	ctx, release := e.interrupts.within(t.Context())
	defer release()
	signals := make(chan os.Signal)
	go e.interrupts.serve(ctx, signals)
	done := make(chan error, 1)
	go func() {
		conversation := &talk{
			environment: e,
			system:      "Be brief.",
			asker:       asker{base: server.URL, model: "m", client: server.Client()},
		}
		done <- conversation.converse(ctx)
	}()
	say := func(line string) []string {
		_, err := fmt.Fprintln(lines, line)
		require.NoError(t, err)
		var heard []string
		for _, m := range <-l.heard {
			heard = append(heard, m.Role+": "+m.Content)
		}
		return heard
	}
	assert.Equal(t, []string{"system: Be brief.", "user: one"}, say("one"))
	assert.Equal(t, []string{"system: Be brief.", "user: one", "assistant: yes", "user: two"}, say("two"))
	say("hang")
	signals <- os.Interrupt
	assert.Equal(
		t, []string{"system: Be brief.", "user: one", "assistant: yes", "user: two", "assistant: yes", "user: three"},
		say("three"), "what was not answered is forgotten",
	)
	_, err := fmt.Fprintln(lines, "/reset")
	require.NoError(t, err)
	assert.Equal(t, []string{"system: Be brief.", "user: four"}, say("four"))
	_, err = fmt.Fprintln(lines, "/exit")
	require.NoError(t, err)
	require.NoError(t, <-done)
	// Of the answer that was stopped the beginning may have been shown.
	assert.Contains(t, []string{strings.Repeat("yes\n", 4), strings.Repeat("yes\n", 5)}, out.String())
	assert.Contains(t, errOut.String(), "(stopped)")
}

func TestAnInterruptWithNothingBegunEndsTheCommand(t *testing.T) {
	t.Parallel()
	i := &interrupts{}
	outer, releaseOuter := i.within(context.Background())
	defer releaseOuter()
	inner, releaseInner := i.within(outer)
	signals := make(chan os.Signal)
	go i.serve(outer, signals)
	releaseInner()
	assert.Error(t, inner.Err())
	require.NoError(t, outer.Err())
	signals <- os.Interrupt
	<-outer.Done()
}

func TestTreeReplacesThePreviousOneAndFitsTheTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	e := &environment{clock: testclock.NewFakeClock(now)}
	s := &screen{environment: e, out: &out}
	snap := look(kaitov1alpha1.ConditionStalled, "QuotaExceeded", "limit 0")
	whole := len(renderer{now: now}.lines(snap))
	require.Greater(t, whole, 3)
	s.show(snap)
	assert.NotContains(t, out.String(), "A\x1b[2K", "nothing is there to draw over")
	out.Reset()
	s.tick()
	assert.True(t, strings.HasPrefix(out.String(), fmt.Sprintf("\x1b[%dA", whole)))

	s.height = 4
	out.Reset()
	s.tick()
	assert.Equal(t, 3, strings.Count(out.String(), "\n"))
	assert.Contains(t, out.String(), fmt.Sprintf("… %d more lines", whole-2))
	out.Reset()
	s.finish(snap)
	assert.True(t, strings.HasPrefix(out.String(), "\x1b[3A"))
	assert.Equal(t, whole, strings.Count(out.String(), "\n"), "the complete tree is printed at the end")
}
