// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
)

// A command asks for a few lists at once and then waits: these keep it from being held back by itself.
const (
	clientQPS   = 50
	clientBurst = 100
)

// cluster is what commands speak to.
type cluster struct {
	client    client.WithWatch
	kube      kubernetes.Interface
	config    *rest.Config
	namespace string
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, kaitov1alpha1.AddToScheme, tuningv1alpha1.AddToScheme,
		karpenterv1alpha5.AddToScheme, nodeclassv1alpha1.AddToScheme, placement.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

func (e *environment) connect() (*cluster, error) {
	config, err := e.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	// Where nothing is configured client-go answers with a port of old.
	if clientcmd.IsEmptyConfig(e.configError()) && config.Host == clientcmd.ClusterDefaults.Server {
		return nil, errors.New(
			"no cluster is configured: set KUBECONFIG or --kubeconfig, or choose a --context (plan and explain need no cluster)",
		)
	}
	config.QPS, config.Burst = clientQPS, clientBurst
	namespace, _, err := e.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c := &cluster{config: config, namespace: namespace}
	if c.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", config.Host, err)
	}
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", config.Host, err)
	}
	return c, nil
}

// configError is what a kubeconfig lacks, taken alone.
func (e *environment) configError() error {
	raw, err := e.flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return err
	}
	return clientcmd.ConfirmUsable(raw, "")
}

// workspace gets a Workspace, or says what is there instead.
func (c *cluster) workspace(ctx context.Context, name string) (*kaitov1alpha1.Workspace, error) {
	w := &kaitov1alpha1.Workspace{}
	err := c.client.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, w)
	switch {
	case absent(err):
		return nil, errNoWorkspaceAPI
	case apierrors.IsNotFound(err):
		return nil, &noWorkspaceError{namespace: c.namespace, name: name}
	case err != nil:
		return nil, fmt.Errorf("reading Workspace %s/%s: %w", c.namespace, name, err)
	}
	return w, nil
}

// noWorkspaceError says that there is none of that name.
type noWorkspaceError struct{ namespace, name string }

func (e *noWorkspaceError) Error() string {
	return fmt.Sprintf(
		"there is no Workspace %s in namespace %s: see kubectl get workspaces -A, and choose the namespace by -n", e.name,
		e.namespace,
	)
}

var errNoWorkspaceAPI = errors.New(
	"the cluster does not serve Workspaces (kaito.sh/v1alpha1): install the workspace-operator, then " + kubectl + " doctor",
)

// absent says that the kind is not served.
func absent(err error) bool { return meta.IsNoMatchError(err) }

// completeWorkspaces offers the namespace's Workspaces to the shell, once.
func (e *environment) completeWorkspaces(
	cmd *cobra.Command, args []string, _ string,
) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := e.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list := &kaitov1alpha1.WorkspaceList{}
	if err := c.client.List(cmd.Context(), list, client.InNamespace(c.namespace)); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
