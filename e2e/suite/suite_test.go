// Package suite_test tells, as stories of users, what the three operators do together: the whole house on one machine,
// each operator a process with the rights of its own service account.
package suite_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/stack"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
)

const (
	root      = "../.."
	seedFile  = "examples/fine-tuning/kaito_workspace_tuning_phi_3.yaml"
	seedName  = "workspace-tuning-phi-3"
	namespace = metav1.NamespaceDefault
	secret    = "push"
	// journey bounds the way from a Workspace to Ready or to nothing, through all three operators and the fake cloud.
	journey = 3 * eventually.Long
)

// house starts everything; what it runs ends with the test.
func house(t *testing.T, options stack.Options) *stack.Stack {
	t.Helper()
	options.Root, options.ServedModel, options.Log = absoluteRoot(t), seedName, testLog{t}
	s, err := stack.Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			for _, o := range stack.Operators {
				t.Logf("%s:\n%s", o, s.OperatorLog(o))
			}
		}
		assert.NoError(t, s.Health())
		assert.NoError(t, s.Stop())
	})
	return s
}

func absoluteRoot(t *testing.T) string {
	t.Helper()
	absolute, err := filepath.Abs(root)
	require.NoError(t, err)
	return absolute
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// seed applies the seed's Workspace with its placeholders filled in.
func seed(t *testing.T, s *stack.Stack) *kaitov1alpha1.Workspace {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, seedFile))
	require.NoError(t, err)
	filled := strings.NewReplacer("ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE", s.RegistryHost()+"/tuned/phi-3", "ACR_REGISTRY_SECRET_HERE", secret).Replace(string(text))
	workspace := &kaitov1alpha1.Workspace{}
	require.NoError(t, yaml.UnmarshalStrict([]byte(filled), workspace))
	workspace.Namespace = namespace
	require.NoError(t, client.IgnoreAlreadyExists(s.Client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secret, Namespace: namespace, Labels: map[string]string{stack.LabelInstalled: "true"}},
		Type:       corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{}}`},
	})))
	require.NoError(t, s.Client.Create(t.Context(), workspace))
	return workspace
}

// eventuallyWorkspace waits until the Workspace is as check wants it.
func eventuallyWorkspace(t *testing.T, s *stack.Stack, check func(*assert.CollectT, *kaitov1alpha1.Workspace)) *kaitov1alpha1.Workspace {
	t.Helper()
	workspace := &kaitov1alpha1.Workspace{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, s.Health())
		require.NoError(c, s.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: seedName}, workspace))
		check(c, workspace)
	}, journey, eventually.Tick, "%s", show{workspace})
	return workspace
}

// show prints a status only when a wait has failed.
type show struct{ workspace *kaitov1alpha1.Workspace }

func (s show) String() string {
	text, err := yaml.Marshal(s.workspace.Status)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func ready(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
	for _, condition := range []string{
		kaitov1alpha1.ConditionResourceReady, kaitov1alpha1.ConditionInferenceReady, kaitov1alpha1.ConditionWorkspaceReady, kaitov1alpha1.ConditionReady,
	} {
		assert.True(c, conditions.IsTrue(w, condition), condition)
	}
}

// nothingLeft waits until neither the cluster nor the cloud has anything of a Workspace.
func nothingLeft(t *testing.T, s *stack.Stack) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, s.Health())
		left, err := s.Left(t.Context())
		require.NoError(c, err)
		assert.Empty(c, left)
	}, journey, eventually.Tick)
}

// quiet lets a period pass in which nothing may happen: the absence of events has no event to wait for.
func quiet(ctx context.Context, period time.Duration) {
	timer := time.NewTimer(period)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
