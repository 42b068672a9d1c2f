// SPDX-License-Identifier: Apache-2.0

package podspec_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"kaito.sh/shared/podspec"
)

// expand expands s as the API reference of Container.args says: "$$" becomes one dollar sign, and $(NAME) the value of
// a known variable.
func expand(s string, values map[string]string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		rest := s[i:]
		if strings.HasPrefix(rest, "$$") {
			out.WriteByte('$')
			i++
			continue
		}
		if end := strings.IndexByte(rest, ')'); strings.HasPrefix(rest, "$(") && end > 0 {
			if value, ok := values[rest[2:end]]; ok {
				out.WriteString(value)
				i += end
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func TestEscapeSurvivesTheKubelet(t *testing.T) {
	t.Parallel()
	values := map[string]string{"HF_TOKEN": "secret", "A": "secret"}
	for _, text := range []string{
		"", "plain", "$", "$$", "$(HF_TOKEN)", "$$(HF_TOKEN)", "$$$(HF_TOKEN)", "a$b", "$(", "$(A", "x$(NONE)y",
	} {
		assert.Equal(t, text, expand(podspec.Escape(text), values))
	}
	// Every text of up to six special characters.
	texts := []string{""}
	for range 6 {
		var longer []string
		for _, text := range texts {
			for _, char := range []string{"$", "(", ")", "A"} {
				require.Equal(t, text+char, expand(podspec.Escape(text+char), values))
				longer = append(longer, text+char)
			}
		}
		texts = longer
	}
}

func TestEscapeContainerKeepsSecretReferences(t *testing.T) {
	t.Parallel()
	secret := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "k"}}
	c := corev1.Container{
		Command: []string{"run"},
		Args:    []string{"--a=$(B)"},
		Env:     []corev1.EnvVar{{Name: "X", Value: "$(B)"}, {Name: "Y", ValueFrom: secret}},
	}
	podspec.EscapeContainer(&c)
	assert.Equal(
		t,
		corev1.Container{
			Command: []string{"run"},
			Args:    []string{"--a=$$(B)"},
			Env:     []corev1.EnvVar{{Name: "X", Value: "$$(B)"}, {Name: "Y", ValueFrom: secret}},
		},
		c,
	)
}
