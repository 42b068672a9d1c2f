// SPDX-License-Identifier: Apache-2.0

package serving_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"kaito.sh/workspace-operator/internal/serving"
)

// TestNoMountHidesAProgram: a runtime refuses to mount a folder on a program, and a program below a mount is gone.
func TestNoMountHidesAProgram(t *testing.T) {
	t.Parallel()
	commands := 0
	for name, edit := range cases {
		in := base()
		edit(&in)
		pod := serving.Deployment(in).Spec.Template.Spec
		if in.Several() {
			pod = serving.StatefulSet(in).Spec.Template.Spec
		}
		brought := map[string]bool{} // programs that an init container puts into a volume
		for _, c := range append(pod.InitContainers, pod.Containers...) {
			if len(c.Command) == 0 || !strings.HasPrefix(c.Command[0], "/") {
				continue
			}
			commands++
			for _, m := range c.VolumeMounts {
				hidden := strings.HasPrefix(c.Command[0]+"/", m.MountPath+"/")
				assert.False(t, hidden && !brought[m.Name], "%s: %s of %s is below %s", name, c.Command[0], c.Name, m.MountPath)
			}
			for _, m := range c.VolumeMounts {
				brought[m.Name] = brought[m.Name] || len(c.Command) > 2 && c.Command[1] == "install" && c.Command[2] == m.MountPath
			}
		}
	}
	assert.Positive(t, commands)
}
