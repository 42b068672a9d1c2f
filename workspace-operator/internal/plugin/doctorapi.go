// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	kaitov1beta1 "kaito.sh/shared/api/kaito/v1beta1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

// servedAPIs are the resources that the API server serves, by group and version.
type servedAPIs map[schema.GroupVersion][]string

func (s servedAPIs) has(gv schema.GroupVersion, resource string) bool {
	return slices.Contains(s[gv], resource)
}

// served asks the API server. A group whose own server does not answer (an aggregated API) is simply not in the answer.
func (c *cluster) served() (servedAPIs, error) {
	_, lists, err := c.kube.Discovery().ServerGroupsAndResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("asking %s for its APIs: %w", c.config.Host, err)
	}
	out := servedAPIs{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue // nothing of ours
		}
		for _, r := range list.APIResources {
			out[gv] = append(out[gv], r.Name)
		}
	}
	return out, nil
}

func nodeClaimVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
}

// checkAPIs: Workspaces must be served, one of the two ways to get nodes should be, TuningJobs are needed for tuning
// only.
func checkAPIs(_ context.Context, _ *cluster, apis servedAPIs) []diagnosis {
	const check = "API"
	var out []diagnosis
	if apis.has(kaitov1alpha1.GroupVersion, "workspaces") {
		out = append(
			out,
			diagnosis{Grade: gradeOK, Check: check, Text: "Workspaces are served as " + kaitov1alpha1.GroupVersion.String()},
		)
	} else {
		out = append(
			out,
			diagnosis{
				gradeFail,
				check,
				"Workspaces are not served",
				"install the workspace-operator: kubectl apply --server-side -k workspace-operator/config/default",
			},
		)
	}
	if apis.has(kaitov1beta1.GroupVersion, "workspaces") {
		out = append(
			out, diagnosis{Grade: gradeOK, Check: check, Text: "Workspaces are served as " + kaitov1beta1.GroupVersion.String()},
		)
	} else {
		out = append(
			out,
			diagnosis{
				gradeWarn,
				check,
				kaitov1beta1.GroupVersion.String() + " of Workspaces is not served: the CRD is of an older release",
				"update it: kubectl apply --server-side -k workspace-operator/config/crd",
			},
		)
	}
	machines, claims := apis.has(karpenterv1alpha5.GroupVersion, "machines"), apis.has(nodeClaimVersion(), "nodeclaims")
	switch {
	case machines || claims:
		var both []string
		if machines {
			both = append(both, "Machines")
		}
		if claims {
			both = append(both, "NodeClaims")
		}
		out = append(
			out, diagnosis{Grade: gradeOK, Check: check, Text: "nodes can be asked for by " + strings.Join(both, " and ")},
		)
	default:
		out = append(
			out,
			diagnosis{
				gradeFail,
				check,
				"neither Machines (karpenter.sh/v1alpha5) nor NodeClaims (karpenter.sh/v1) are served: no nodes can be created",
				"install a node provisioner: kubectl apply --server-side -k gpu-provisioner/config/with-karpenter-crds; or bring your own nodes by resource.provisioning: Never. See " + kubectl + " explain " + kaitov1alpha1.ReasonNodeAPIMissing,
			},
		)
	}
	if apis.has(tuningv1alpha1.GroupVersion, "tuningjobs") {
		return append(
			out,
			diagnosis{Grade: gradeOK, Check: check, Text: "TuningJobs are served as " + tuningv1alpha1.GroupVersion.String()},
		)
	}
	return append(
		out,
		diagnosis{
			gradeWarn,
			check,
			"TuningJobs are not served: Workspaces with a tuning section cannot be tuned",
			"install the tuning-operator: kubectl apply --server-side -k tuning-operator/config/default. See " + kubectl + " explain " + kaitov1alpha1.ReasonTuningOperatorMissing,
		},
	)
}

// right is one thing that somebody who uses Workspaces does, and what works only with it.
type right struct {
	verb, group, resource, subresource string
	cluster                            bool
	lacks                              string
}

func rights(apis servedAPIs) []right {
	out := []right{
		{
			verb:     "create",
			group:    kaitov1alpha1.GroupVersion.Group,
			resource: "workspaces",
			lacks:    "kubectl apply of a Workspace",
		},
		{verb: "list", group: kaitov1alpha1.GroupVersion.Group, resource: "workspaces", lacks: kubectl + " status"},
		{verb: "list", resource: "pods", lacks: kubectl + " status, logs and chat"},
		{verb: "get", resource: "pods", subresource: "log", lacks: kubectl + " logs"},
		{verb: "create", resource: "pods", subresource: "portforward", lacks: kubectl + " chat"},
		{verb: "list", resource: "nodes", cluster: true, lacks: kubectl + " audit, and the nodes in " + kubectl + " status"},
	}
	if apis.has(karpenterv1alpha5.GroupVersion, "machines") {
		out = append(
			out,
			right{
				verb:     "list",
				group:    karpenterv1alpha5.GroupVersion.Group,
				resource: "machines",
				cluster:  true,
				lacks:    kubectl + " audit, and the Machines in " + kubectl + " status",
			},
		)
	}
	if apis.has(nodeClaimVersion(), "nodeclaims") {
		out = append(
			out,
			right{
				verb:     "list",
				group:    nodeClaimVersion().Group,
				resource: "nodeclaims",
				cluster:  true,
				lacks:    kubectl + " audit, and the NodeClaims in " + kubectl + " status",
			},
		)
	}
	if apis.has(tuningv1alpha1.GroupVersion, "tuningjobs") {
		out = append(
			out,
			right{
				verb:     "get",
				group:    tuningv1alpha1.GroupVersion.Group,
				resource: "tuningjobs",
				lacks:    "the TuningJob in " + kubectl + " status",
			},
		)
	}
	return out
}

// checkRights asks for the user's own. What is lacking is a warning: an operator of the cluster may want it so.
func checkRights(ctx context.Context, c *cluster, apis servedAPIs) []diagnosis {
	const check = "your rights"
	var lacking []diagnosis
	all := rights(apis)
	for _, r := range all {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb:        r.verb,
				Group:       r.group,
				Resource:    r.resource,
				Subresource: r.subresource,
			},
		}}
		what, where := strings.TrimSuffix(r.resource+"/"+r.subresource, "/"), "in the cluster"
		if !r.cluster {
			review.Spec.ResourceAttributes.Namespace = c.namespace
			where = "in namespace " + c.namespace
		}
		answer, err := c.kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		switch {
		case err != nil:
			return append(lacking, unseen(check, "your rights", err))
		case !answer.Status.Allowed:
			lacking = append(
				lacking,
				diagnosis{
					gradeWarn,
					check,
					fmt.Sprintf("you may not %s %s %s: %s will not work", r.verb, what, where, r.lacks),
					"ask whoever administers the cluster for a Role with it",
				},
			)
		}
	}
	if len(lacking) > 0 {
		return lacking
	}
	return []diagnosis{
		{
			Grade: gradeOK,
			Check: check,
			Text:  fmt.Sprintf("all %d that these commands and Workspaces in namespace %s need", len(all), c.namespace),
		},
	}
}
