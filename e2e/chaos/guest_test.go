// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"fmt"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Sizes that are asked for. There is no quota for the last, not even for one machine of four vCPUs.
const (
	a100       = "Standard_NC24ads_A100_v4"
	v100       = "Standard_NC6s_v3"
	t4         = "Standard_NC4as_T4_v3"
	poorFamily = "Standard NCASv3_T4 Family"
)

// guest is one who makes a Workspace.
type guest struct {
	workspace *kaitov1alpha1.Workspace
	created   bool
	// poor asks for what there is no quota for.
	poor bool
}

// invite prepares n Workspaces: of ten, five that serve from one node, one that serves from several, two that tune and
// then serve, one that only tunes, and one that asks for what there is no quota for. Who comes when is the seed's.
func (w *world) invite(n int) {
	w.Helper()
	require.NoError(w, w.Client.Create(w.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      "huggingface",
			Namespace: stacktest.Namespace,
		},
		StringData: map[string]string{"HF_TOKEN": "none"},
	}))
	stacktest.CreatePushSecret(w.T, w.Stack)
	for i := range n {
		name := fmt.Sprintf("guest-%d", i)
		g := &guest{}
		switch i % 10 {
		case 5:
			g.workspace = serving(name, a100, "llama-3.3-70b-instruct")
			count := int32(4) // at most; the plan takes fewer
			g.workspace.Resource.Count = &count
			g.workspace.Inference.Preset.PresetOptions = &kaitov1alpha1.PresetOptions{ModelAccessSecret: "huggingface"}
		case 6, 7:
			g.workspace = stacktest.Example(w.T, w.Stack, name)
		case 8:
			g.workspace = stacktest.Example(w.T, w.Stack, name)
			g.workspace.Tuning.Serve = kaitov1alpha1.ServeNever
		case 9:
			g.workspace, g.poor = serving(name, t4, "phi-4-mini-instruct"), true
		default:
			g.workspace = serving(name, a100, "phi-4-mini-instruct")
		}
		g.workspace.Resource.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
		w.guests = append(w.guests, g)
	}
	w.random.Shuffle(n, func(i, j int) { w.guests[i], w.guests[j] = w.guests[j], w.guests[i] })
}

func serving(name, size, preset string) *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: stacktest.Namespace},
		Resource:   kaitov1alpha1.ResourceSpec{InstanceType: size},
		Inference:  &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: preset}},
	}
}

// come has the next n guests make their Workspaces.
func (w *world) come(n int) {
	w.Helper()
	for _, g := range w.guests {
		if g.created {
			continue
		}
		if n == 0 {
			return
		}
		n--
		require.NoError(w, w.Client.Create(w.Context(), g.workspace))
		g.created = true
	}
}
