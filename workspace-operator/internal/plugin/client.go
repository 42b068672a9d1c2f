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

// A command reads a few lists at once. These limits of the client do not delay it.
const (
	clientQPS   = 50
	clientBurst = 100
)

// cluster has the clients and the namespace of a command.
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
	// Without configuration, client-go returns an old default address.
	if clientcmd.IsEmptyConfig(e.configError()) && config.Host == clientcmd.ClusterDefaults.Server {
		return nil, errors.New(
			"no cluster is configured: set KUBECONFIG, --kubeconfig or --context (plan and explain need no cluster)",
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
		return nil, fmt.Errorf("creating a client for %s: %w", config.Host, err)
	}
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("creating a client for %s: %w", config.Host, err)
	}
	return c, nil
}

// configError returns the error of the kubeconfig without the command line's flags.
func (e *environment) configError() error {
	raw, err := e.flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return err
	}
	return clientcmd.ConfirmUsable(raw, "")
}

// workspace gets a Workspace. Its errors say whether the object or the API is missing.
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

// noWorkspaceError reports a Workspace that does not exist.
type noWorkspaceError struct{ namespace, name string }

func (e *noWorkspaceError) Error() string {
	return fmt.Sprintf(
		"there is no Workspace %s in namespace %s: list all with kubectl get workspaces -A, and set the namespace with -n", e.name,
		e.namespace,
	)
}

var errNoWorkspaceAPI = errors.New(
	"the cluster does not serve Workspaces (kaito.sh/v1alpha1): install the workspace-operator, then run " + kubectl + " doctor",
)

// absent reports whether the cluster does not serve the kind.
func absent(err error) bool { return meta.IsNoMatchError(err) }

// completeWorkspaces completes the first argument with the Workspaces of the namespace.
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
