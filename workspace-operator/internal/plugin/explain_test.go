// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"kaito.sh/workspace-operator/internal/runbook"
)

func TestAReasonIsExplainedWithoutACluster(t *testing.T) {
	t.Parallel()
	r := offline(t, nil, "explain", "QuotaExceeded")
	assert.Zero(t, r.code)
	assert.Contains(t, r.out, "What to do. `az quota update`")
	assert.NotContains(t, r.out, "**", "no marks of Markdown's emphasis")

	list := offline(t, nil, "explain")
	assert.Zero(t, list.code)
	for _, reason := range runbook.Reasons() {
		assert.Contains(t, list.out, reason)
	}
}

func TestAnUnknownReasonIsNoAndSuggests(t *testing.T) {
	t.Parallel()
	r := offline(t, nil, "explain", "QuotaExceded")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.errOut, "did you mean QuotaExceeded")
	goesOn := offline(t, nil, "explain", "provisioning")
	assert.Equal(t, 1, goesOn.code)
	assert.Contains(t, goesOn.errOut, "Provisioning is a reason of work in progress")
}

func TestTheShellIsOfferedReasonsModelsAndSizes(t *testing.T) {
	t.Parallel()
	assert.Contains(t, offline(t, nil, "__complete", "explain", "").out, "QuotaExceeded\n")
	assert.Contains(t, offline(t, nil, "__complete", "plan", "").out, "phi-4-mini-instruct\n")
	assert.Contains(t, offline(t, nil, "__complete", "plan", "phi-4", "--instance-type", "").out, "Standard_NC6s_v3\n")
}

func TestHelpShowsHowTheProgramIsCalled(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"plan", "status", "chat", "logs", "audit", "doctor", "explain"} {
		r := offline(t, nil, command, "--help")
		assert.Zero(t, r.code, command)
		assert.Contains(t, r.out, "Usage:\n  kubectl kaito "+command)
		assert.Contains(t, r.out, "Examples:", command)
	}
}
