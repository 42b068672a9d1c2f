// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// ConditionPoolManaged is a condition of a NodeClaim. It is False while this operator cannot manage the agent pool of
// the claim's machine because a user has changed the pool, and while the list of the pool's machines cannot be correct.
// The reason and message say what to do. The condition is absent until that happens for the first time. It affects
// neither Karpenter nor the claim's owner: the machine still runs.
const ConditionPoolManaged = "AgentPoolManaged"

// unmanaged returns why the pool cannot be managed and how to fix it, or "".
func unmanaged(cluster azure.Cluster, p *azure.Pool) (reason, message string) {
	switch {
	case p.TagsReplaced():
		return karpenterv1alpha5.ReasonAgentPoolTagsReplaced, fmt.Sprintf(
			"agent pool %s lost the tags of this operator, which does not change the pool until they are restored. This claim is kept. To fix: %s --tags %s",
			p.Name, nodepoolUpdate(cluster, p.Name), allTags(cluster, p),
		)
	case p.Ours() && p.Autoscaled:
		return karpenterv1alpha5.ReasonAgentPoolAutoscaled, fmt.Sprintf(
			"the cluster autoscaler is on for agent pool %s. It may delete this machine, and the pool cannot grow: new claims get another pool. To fix: %s --disable-cluster-autoscaler",
			p.Name, nodepoolUpdate(cluster, p.Name),
		)
	}
	return "", ""
}

func nodepoolUpdate(cluster azure.Cluster, pool string) string {
	group, name := cluster.ResourceGroup, cluster.Name
	if group == "" || name == "" {
		group, name = "<resource group>", "<cluster>"
	}
	return fmt.Sprintf("az aks nodepool update --resource-group %s --cluster-name %s --name %s", group, name, pool)
}

// allTags returns the pool's tags and this operator's for `az --tags`, which replaces all tags.
func allTags(cluster azure.Cluster, p *azure.Pool) string {
	tags := maps.Clone(p.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, cluster.OurTags(p.Name))
	var out []string
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		text := key + "=" + tags[key]
		if strings.ContainsAny(text, " \t'\"$`\\&|;<>()*?!#~") {
			text = "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// reportUnmanaged sets the condition ConditionPoolManaged of every claim with a machine, records an event when the
// reason changes, and sets the metric. It does nothing while the cluster is not running.
func (e *Engine) reportUnmanaged(ctx context.Context, p *pass) error {
	if !p.view.Cluster.Writable() {
		return nil
	}
	reasons := map[string]string{} // by pool
	var errs []error
	for i := range p.claims {
		c := &p.claims[i]
		if c.ProviderID == "" {
			continue
		}
		_, pool, found := p.view.Machine(c.ProviderID)
		if !found {
			pool, found = p.view.Pool(azure.PoolOf(c.ProviderID))
		}
		if !found {
			continue // the condition keeps its last value
		}
		reason, message := unmanaged(p.view.Cluster, pool)
		if reason != "" {
			reasons[pool.Name] = reason
		} else if message = e.inDoubt(pool.Name); message != "" {
			reason = karpenterv1alpha5.ReasonAgentPoolInDoubt
		}
		errs = append(errs, e.setManaged(ctx, p.objects[c.Name], reason, message))
	}
	e.Metrics.observeUnmanaged(reasons)
	return errors.Join(errs...)
}

// setManaged writes the condition if it has changed.
func (e *Engine) setManaged(ctx context.Context, nc *karpv1.NodeClaim, reason, message string) error {
	if nc == nil {
		return nil
	}
	was := nc.StatusConditions().Get(ConditionPoolManaged)
	stored := nc.DeepCopy()
	changed := false
	switch {
	case reason != "":
		changed = nc.StatusConditions().SetFalse(ConditionPoolManaged, reason, message)
	case was != nil && !was.IsTrue():
		changed = nc.StatusConditions().SetTrue(ConditionPoolManaged)
	}
	if !changed {
		return nil
	}
	err := e.Client.Status().Patch(ctx, nc, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		e.Wake()
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the condition %s of NodeClaim %s: %w", ConditionPoolManaged, nc.Name, err)
	}
	if reason != "" && (was == nil || was.Reason != reason) {
		e.event(nc, warning, reason, message)
	}
	return nil
}
