// SPDX-License-Identifier: Apache-2.0

package stacktest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
	// Namespace is where the user works.
	Namespace = metav1.NamespaceDefault
	// QuickStartName is the name of the quick start's Workspace.
	QuickStartName = "workspace-tuning-phi-3"
	// PushSecret is the name of the Secret that the quick start's Workspace pushes with.
	PushSecret = "push"
	// Journey bounds the way from a Workspace to Ready or to nothing, through all three operators and the fake cloud.
	Journey = 3 * eventually.Long

	quickStartFile = "examples/fine-tuning/kaito_workspace_tuning_phi_3.yaml"
)

var existing = flag.Bool(
	"existing", false,
	"run on the cluster that KUBECONFIG names, which must have neither these operators nor Karpenter; what is installed is removed at the end",
)

// OwnCluster skips a test on a cluster that is there already, and says why it needs one of its own.
func OwnCluster(t *testing.T, why string) {
	t.Helper()
	if *existing {
		t.Skip("not on an existing cluster: " + why)
	}
}

// Parallel has a test run beside others of its package: most of a story is waiting. On a cluster that is there already
// they take turns.
func Parallel(t *testing.T) {
	t.Helper()
	if !*existing {
		t.Parallel()
	}
}

// Start starts a stack whose engine serves the quick start's Workspace where the options name no other; what it runs
// ends with the test, and an operator that exits unexpectedly fails it.
func Start(t *testing.T, options stack.Options) *stack.Stack {
	t.Helper()
	options.Root, options.Log = Root(t), log{t}
	if len(options.ServedModels) == 0 {
		options.ServedModels = []string{QuickStartName}
	}
	if *existing && options.Existing == nil {
		options.Existing = &stack.Existing{}
	}
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

// Main runs the tests of a package on one stack, one after another, and returns the exit code. Each test leaves the
// stack empty.
func Main(m *testing.M, options stack.Options, use func(*stack.Stack)) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	failed := func(err error) int {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var err error
	if options.Root, err = root(); err != nil {
		return failed(err)
	}
	s, err := stack.Start(ctx, options)
	if err != nil {
		return failed(err)
	}
	use(s)
	code := m.Run()
	if code != 0 {
		for _, o := range options.Operators {
			_, _ = fmt.Fprintln(os.Stderr, s.OperatorLog(o))
		}
	}
	if err := s.Stop(); err != nil {
		return max(code, failed(err))
	}
	return code
}

// Root is the repository's: the folder around the test's that has go.work.
func Root(t *testing.T) string {
	t.Helper()
	folder, err := root()
	require.NoError(t, err)
	return folder
}

func root() (string, error) {
	began, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for folder := began; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.work")); err == nil {
			return folder, nil
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("no go.work in %s, or in a folder above it", began)
		}
	}
}

type log struct{ t *testing.T }

func (l log) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// QuickStart applies the quick start's Workspace with its placeholders filled in.
func QuickStart(t *testing.T, s *stack.Stack) *kaitov1alpha1.Workspace {
	t.Helper()
	workspace := Example(t, s, QuickStartName)
	CreatePushSecret(t, s)
	require.NoError(t, s.Client.Create(t.Context(), workspace))
	return workspace
}

// Example is the quick start's Workspace by another name, with an image of its own. It is not created yet.
func Example(t *testing.T, s *stack.Stack, name string) *kaitov1alpha1.Workspace {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), quickStartFile))
	require.NoError(t, err)
	filled := strings.NewReplacer("ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE", s.RegistryHost()+"/tuned/"+strings.TrimPrefix(name, "workspace-tuning-"), "ACR_REGISTRY_SECRET_HERE", PushSecret).
		Replace(string(text))
	workspace := &kaitov1alpha1.Workspace{}
	require.NoError(t, yaml.UnmarshalStrict([]byte(filled), workspace))
	workspace.Name, workspace.Namespace = name, Namespace
	return workspace
}

// CreatePushSecret makes the Secret that pushes to the stack's registry, which asks for no password.
func CreatePushSecret(t *testing.T, s *stack.Stack) {
	t.Helper()
	require.NoError(t, client.IgnoreAlreadyExists(s.Client.Create(t.Context(), &corev1.Secret{
		// The label lets a stack in an existing cluster take it away.
		ObjectMeta: metav1.ObjectMeta{
			Name:      PushSecret,
			Namespace: Namespace,
			Labels:    map[string]string{stack.LabelInstalled: "true"},
		},
		Type:       corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{}}`},
	})))
}

// EventuallyWorkspace waits until the Workspace of a name is as check wants it.
func EventuallyWorkspace(
	t *testing.T, s *stack.Stack, name string, check func(*assert.CollectT, *kaitov1alpha1.Workspace),
) *kaitov1alpha1.Workspace {
	t.Helper()
	workspace := &kaitov1alpha1.Workspace{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, s.Health())
		require.NoError(c, s.Client.Get(t.Context(), client.ObjectKey{Namespace: Namespace, Name: name}, workspace))
		check(c, workspace)
	}, Journey, eventually.StoryTick, "%s", show{workspace})
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

// Ready asserts that a Workspace is ready, by each of its conditions that say so.
func Ready(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
	for _, condition := range []string{
		kaitov1alpha1.ConditionResourceReady, kaitov1alpha1.ConditionInferenceReady,
		kaitov1alpha1.ConditionWorkspaceReady, kaitov1alpha1.ConditionReady,
	} {
		assert.True(c, conditions.IsTrue(w, condition), condition)
	}
}

// Says asserts that a Workspace is not ready, and says why by the reason.
func Says(reason string) func(*assert.CollectT, *kaitov1alpha1.Workspace) {
	return func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		var reasons []string
		for _, condition := range w.Status.Conditions {
			if condition.Status != metav1.ConditionTrue || condition.Type == conditions.Stalled {
				reasons = append(reasons, condition.Reason)
			}
		}
		assert.Contains(c, reasons, reason)
		assert.False(c, conditions.IsTrue(w, conditions.Ready))
	}
}

// Delete deletes a Workspace as its user does.
func Delete(t *testing.T, s *stack.Stack, w *kaitov1alpha1.Workspace) {
	t.Helper()
	require.NoError(
		t,
		s.Client.Delete(
			t.Context(), &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: w.Name, Namespace: w.Namespace}},
		),
	)
}

// NothingLeft waits until neither the cluster nor the cloud has anything of a Workspace, save what is named.
func NothingLeft(t *testing.T, s *stack.Stack, save ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, s.Health())
		left, err := s.Left(t.Context())
		require.NoError(c, err)
		assert.ElementsMatch(c, save, left)
	}, Journey, eventually.Look)
}
