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

// served reads the API groups. It omits an aggregated group whose server does not answer.
func (c *cluster) served() (servedAPIs, error) {
	_, lists, err := c.kube.Discovery().ServerGroupsAndResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("reading the APIs of %s: %w", c.config.Host, err)
	}
	out := servedAPIs{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue // not one of the project's groups
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

// checkAPIs checks that Workspaces and one of Machines and NodeClaims are served. TuningJobs are needed only for
// tuning.
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
				kaitov1beta1.GroupVersion.String() + " of Workspaces is not served: the CRD is from an older release",
				"update the CRD: kubectl apply --server-side -k workspace-operator/config/crd",
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
			out, diagnosis{Grade: gradeOK, Check: check, Text: "nodes can be requested as " + strings.Join(both, " and ")},
		)
	default:
		out = append(
			out,
			diagnosis{
				gradeFail,
				check,
				"neither Machines (karpenter.sh/v1alpha5) nor NodeClaims (karpenter.sh/v1) are served: no nodes can be created",
				"install a node provisioner: kubectl apply --server-side -k gpu-provisioner/config/with-karpenter-crds; or use your own nodes with resource.provisioning: Never. See " + kubectl + " explain " + kaitov1alpha1.ReasonNodeAPIMissing,
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

// right is a permission that a user of Workspaces needs, and the feature that needs it.
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

// checkRights checks the user's own permissions. A missing one is only a warning, because it can be intended.
func checkRights(ctx context.Context, c *cluster, apis servedAPIs) []diagnosis {
	const check = "your permissions"
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
			return append(lacking, notChecked(check, "your permissions", err))
		case !answer.Status.Allowed:
			lacking = append(
				lacking,
				diagnosis{
					gradeWarn,
					check,
					fmt.Sprintf("you may not %s %s %s: %s will not work", r.verb, what, where, r.lacks),
					"ask an administrator of the cluster for a Role with this permission",
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
			Text:  fmt.Sprintf("you have all %d permissions that these commands and Workspaces in namespace %s need", len(all), c.namespace),
		},
	}
}
