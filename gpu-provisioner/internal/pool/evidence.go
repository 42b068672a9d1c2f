// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"encoding/json"
	"time"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Annotations on a NodeClaim. They are written ahead: what they say holds before core writes its status, also when the
// process dies in between.
const (
	// AnnotationProviderID binds the claim to a machine.
	AnnotationProviderID = "kaito.sh/provider-id"
	// AnnotationBoundAt is when that was, RFC 3339.
	AnnotationBoundAt = "kaito.sh/provider-id-bound-at"
	// AnnotationFailure is why the claim cannot be launched, a Failure as JSON.
	AnnotationFailure = "kaito.sh/launch-failure"
)

// Failure is the verdict on a claim.
type Failure struct {
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
	Class   azure.Class `json:"class"`
}

// FailureOf reads the verdict on a claim, if there is one.
func FailureOf(claim *karpv1.NodeClaim) (Failure, bool) {
	raw, ok := claim.Annotations[AnnotationFailure]
	if !ok {
		return Failure{}, false
	}
	var f Failure
	if err := json.Unmarshal([]byte(raw), &f); err != nil || f.Reason == "" {
		// Somebody else's hand: still a verdict, but without a class that would let core delete the claim.
		return Failure{Reason: azure.ReasonAzureError, Message: raw, Class: azure.ClassTransient}, true
	}
	return f, true
}

func (f Failure) encode() string {
	raw, err := json.Marshal(f)
	if err != nil {
		panic(err) // three strings
	}
	return string(raw)
}

// ProviderIDOf is the machine that the claim names.
func ProviderIDOf(claim *karpv1.NodeClaim) string {
	if claim.Status.ProviderID != "" {
		return claim.Status.ProviderID
	}
	return claim.Annotations[AnnotationProviderID]
}

func boundAt(claim *karpv1.NodeClaim) time.Time {
	t, err := time.Parse(time.RFC3339, claim.Annotations[AnnotationBoundAt])
	if err != nil {
		return time.Time{}
	}
	return t
}
