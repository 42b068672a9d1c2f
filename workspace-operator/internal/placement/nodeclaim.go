// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// nodeClaimGroupVersion is the API that NodeClaims asks by.
var nodeClaimGroupVersion = schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}

// AddToScheme adds NodeClaim to a scheme. Karpenter's own package adds its kinds to client-go's scheme only, all of
// them.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(nodeClaimGroupVersion, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{})
	metav1.AddToGroupVersion(scheme, nodeClaimGroupVersion)
	return nil
}

// NodeClaims asks by karpenter.sh/v1.
type NodeClaims struct {
	// Class is what every NodeClaim refers to: swapping the provider is this one setting.
	Class karpv1.NodeClassReference
}

var _ API = NodeClaims{}

// ParseClass reads "group/Kind/name".
func ParseClass(s string) (karpv1.NodeClassReference, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return karpv1.NodeClassReference{}, fmt.Errorf(
			"node class %q: want group/Kind/name, for example kaito.sh/KaitoNodeClass/default", s,
		)
	}
	return karpv1.NodeClassReference{Group: parts[0], Kind: parts[1], Name: parts[2]}, nil
}

// Kind is NodeClaim.
func (NodeClaims) Kind() string { return "NodeClaim" }

// Condition is NodeClaimReady.
func (NodeClaims) Condition() string { return kaitov1alpha1.ConditionNodeClaimReady }

// Object is an empty NodeClaim.
func (NodeClaims) Object() client.Object { return &karpv1.NodeClaim{} }

// List is an empty list of NodeClaims.
func (NodeClaims) List() client.ObjectList { return &karpv1.NodeClaimList{} }

// Items are the list's NodeClaims.
func (NodeClaims) Items(list client.ObjectList) []client.Object {
	claims, ok := list.(*karpv1.NodeClaimList)
	if !ok {
		return nil
	}
	return pointers(claims.Items)
}

// Build renders a NodeClaim.
func (k NodeClaims) Build(r Request) client.Object {
	annotations := r.annotations()
	annotations[karpv1.DoNotDisruptAnnotationKey] = "true"
	class := k.Class
	c := &karpv1.NodeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: nodeClaimGroupVersion.String(), Kind: "NodeClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: Name(r.UID, r.Ordinal, r.Attempt), Labels: r.labels(), Annotations: annotations},
		Spec: karpv1.NodeClaimSpec{
			Taints:       taints(),
			Resources:    karpv1.ResourceRequirements{Requests: r.requests()},
			NodeClassRef: &class,
			ExpireAfter:  karpv1.NillableDuration{}, // Never: the Workspace decides
		},
	}
	for _, q := range r.requirements() {
		c.Spec.Requirements = append(c.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{
			Key: q.key, Operator: corev1.NodeSelectorOpIn, Values: []string{q.value},
		})
	}
	return c
}

// Read reads a NodeClaim.
func (k NodeClaims) Read(obj client.Object) Claim {
	claim := read(k.Kind(), obj)
	c, ok := obj.(*karpv1.NodeClaim)
	if !ok {
		return claim
	}
	for _, q := range c.Spec.Requirements {
		claim.require(q.Key, q.Values)
	}
	claim.GPUs = gpus(c.Spec.Resources.Requests)
	claim.NodeName, claim.ProviderID = c.Status.NodeName, c.Status.ProviderID
	claim.Acknowledged = len(c.Status.Conditions) > 0
	of := func(conditionType string) Condition {
		for i := range c.Status.Conditions {
			if got := c.Status.Conditions[i]; got.Type == conditionType {
				return Condition{
					Status:  corev1.ConditionStatus(got.Status),
					Reason:  got.Reason,
					Message: got.Message,
					Since:   got.LastTransitionTime.Time,
				}
			}
		}
		return Condition{}
	}
	claim.Launched = of(karpv1.ConditionTypeLaunched)
	claim.Registered = of(karpv1.ConditionTypeRegistered)
	claim.Initialized = of(karpv1.ConditionTypeInitialized)
	claim.Ready = of("Ready")
	return claim
}
