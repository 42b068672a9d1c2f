// SPDX-License-Identifier: Apache-2.0

package runbook_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/workspace-operator/internal/runbook"
)

const docs = "../../../docs/runbooks"

func TestEveryPageOfTheDocsIsEmbeddedWordForWord(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(docs, "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	pages := map[string]string{}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".md"); name != "README" {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			pages[name] = strings.TrimSpace(string(text))
		}
	}
	assert.Len(t, runbook.Reasons(), len(pages), "run make generate")
	for name, text := range pages {
		page, found := runbook.Find(name)
		if !assert.True(t, found, "%s: run make generate", name) {
			continue
		}
		assert.Equal(t, text, page.Text, "%s: run make generate", name)
		for part, value := range map[string]string{"On:": page.On, "What it means": page.Meaning, "Where to look": page.Look, "What to do": page.Do} {
			assert.NotEmpty(t, value, "docs/runbooks/%s.md has no %q", name, part)
		}
	}
}

func TestAReasonIsFoundInAnyCase(t *testing.T) {
	t.Parallel()
	page, found := runbook.Find("quotaexceeded")
	require.True(t, found)
	assert.Equal(t, "QuotaExceeded", page.Reason)
	_, found = runbook.Find("QuotaExceede")
	assert.False(t, found)
}

func TestNearMatchesAreSuggestedBestFirst(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{"QuotaExceded": "QuotaExceeded", "infeasable": "Infeasible", "noprovisoner": "NoProvisioner", "accelerator": "AcceleratorNotReady"} {
		got := runbook.Nearest(word)
		if assert.NotEmpty(t, got, word) {
			assert.Equal(t, want, got[0], word)
		}
	}
	assert.Len(t, runbook.Nearest("quota"), 3, "no more than a person reads")
	assert.Empty(t, runbook.Nearest("xyzzyxyzzy"))
}
