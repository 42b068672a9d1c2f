// SPDX-License-Identifier: Apache-2.0

package excerpt_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"kaito.sh/shared/excerpt"
)

func TestShortTextIsUnchanged(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "héllo", excerpt.Head("héllo", 6))
	assert.Equal(t, "héllo", excerpt.Tail("héllo", 6))
	assert.Empty(t, excerpt.Head("", 0))
	assert.Equal(t, strings.Repeat("x", 1024), excerpt.Note(strings.Repeat("x", 1024)))
	assert.Equal(t, "see https://host.example/a?…", excerpt.Note("see https://host.example/a?sig=s3cret"))
}

func TestLongTextIsShortenedBetweenCharacters(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "hé…", excerpt.Head("hééééé", 6))
	assert.Equal(t, "hé…", excerpt.Head("hééééé", 7), "half of an é would fit")
	assert.Equal(t, "…éh", excerpt.Tail("éééééh", 6))
	assert.Equal(t, "…éh", excerpt.Tail("éééééh", 7), "half of an é would fit")
	assert.Empty(t, excerpt.Head("héllo wörld", 3))
	assert.Empty(t, excerpt.Tail("héllo wörld", 2))
}

func TestInvalidUTF8IsReplaced(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a\uFFFDb", excerpt.Head("a\xffb", 100))
	assert.Equal(t, "a\uFFFDb", excerpt.Tail("a\xc3b", 100))
}

func FuzzEveryExcerptIsTextAndFits(f *testing.F) {
	f.Add("hééééé", 7)
	f.Add("\xff\xff\xff\xff", 3)
	f.Add("日本語のメッセージ", 10)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit &= 0x3fff
		for _, got := range []string{excerpt.Head(text, limit), excerpt.Tail(text, limit)} {
			assert.LessOrEqual(t, len(got), limit)
			assert.True(t, utf8.ValidString(got))
			if utf8.ValidString(text) && len(text) <= limit {
				assert.Equal(t, text, got)
			}
		}
	})
}
