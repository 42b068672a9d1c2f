package stack

import (
	"context"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/cluster"
)

// labelJob is on every pod of a batch Job.
const labelJob = "batch.kubernetes.io/job-name"

// held keeps a simulated job's first step running until somebody says how the job goes on: no race between the
// simulated kubelet and who decides the outcome.
var held = cluster.Outcome{"fetch": {After: time.Hour}}

// holdJobs has the API server put held on every pod of a Job as it is created.
func holdJobs(ctx context.Context, c client.Client) error {
	const name = "simulated-jobs-wait"
	value := fmt.Sprintf("%q", held.Annotation())
	expression := fmt.Sprintf(`has(object.metadata.annotations)
? [JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey(%[1]q), value: %[2]s}]
: [JSONPatch{op: "add", path: "/metadata/annotations", value: {%[1]q: %[2]s}}]`, cluster.OutcomeAnnotation, value)
	policy := &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			FailurePolicy:      ptr.To(admissionregistrationv1.Fail),
			ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				ObjectSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: labelJob, Operator: metav1.LabelSelectorOpExists}}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}},
			},
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType: admissionregistrationv1.PatchTypeJSONPatch,
				JSONPatch: &admissionregistrationv1.JSONPatch{Expression: expression},
			}},
		},
	}
	if err := c.Create(ctx, policy); err != nil {
		return fmt.Errorf("holding simulated jobs: %w", err)
	}
	binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name},
	}
	if err := c.Create(ctx, binding); err != nil {
		return fmt.Errorf("holding simulated jobs: %w", err)
	}
	return nil
}
