// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/plan"
)

// The operator reads a ConfigMap that a Workspace names. Of all others it watches the metadata only.
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch
// Whether a named Secret exists is asked by a create with dryRun=All, so that no right to read Secrets is needed; an
// admission policy that is installed with the operator refuses its creates without dryRun. See
// docs/adr/0004-secret-existence.md. The policy knows the operator by the verb dryrun, which is in the same rule: who
// has the one right has the other, under any name.
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create;dryrun

// Keys of the ConfigMaps that a Workspace may name.
const (
	keyInferenceConfig = "inference_config.yaml"
	keyTrainingConfig  = "training_config.yaml"
)

// readConfig reads the ConfigMaps that the Workspace names.
func (r *Reconciler) readConfig(ctx context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	var err error
	if w.Inference != nil && w.Inference.Config != "" {
		s.inferenceConfig, err = r.config(ctx, s, w.Inference.Config, keyInferenceConfig, "inference.config")
		if err != nil {
			return flow.Stop(), err
		}
	}
	if w.Tuning != nil && w.Tuning.Config != "" {
		s.trainingConfig, err = r.config(ctx, s, w.Tuning.Config, keyTrainingConfig, "tuning.config")
		if err != nil {
			return flow.Stop(), err
		}
	}
	return flow.Continue(), nil
}

// findSecrets looks for the Secrets before nodes are asked for; from then on the kubelet tells.
func (r *Reconciler) findSecrets(ctx context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	if s.blocked != nil || s.requested() || s.plan == nil || s.plan.Status.Nodes == 0 {
		return flow.Continue(), nil
	}
	if s.wasOverBudget() {
		return flow.Continue(), nil // looked for in the pass that first met the budget: a hundred that wait must not ask again and again
	}
	for _, name := range secretsOf(w) {
		exists, known, err := r.secrets.Exists(ctx, client.ObjectKey{Namespace: w.Namespace, Name: name.secret})
		if errors.Is(err, ErrUnguarded) {
			s.block(stuck(kaitov1alpha1.ReasonSecretPolicyMissing, err.Error()))
			return flow.ContinueUntil(r.options.SecretRecheck), nil
		}
		if err != nil {
			return flow.Stop(), err
		}
		if known && !exists {
			s.block(stuck(kaitov1alpha1.ReasonSecretNotFound, fmt.Sprintf(
				"%s names the Secret %s/%s, which does not exist: create it, and the Workspace goes on by itself",
				name.field,
				w.Namespace,
				name.secret,
			)))
			// The only thing that is looked at again by the clock: watching Secrets would need the right to read them all.
			return flow.ContinueUntil(r.options.SecretRecheck), nil
		}
	}
	return flow.Continue(), nil
}

// requested says whether nodes have been asked for, or chosen.
func (s *scope) requested() bool {
	return len(s.states) > 0 || s.before.Status.TargetNodeCount > 0 || s.server != nil
}

// block keeps anything from being created. The first reason stays.
func (s *scope) block(o outcome) {
	if s.blocked == nil {
		s.blocked = &o
	}
}

func (r *Reconciler) config(ctx context.Context, s *scope, name, key, field string) (string, error) {
	w := s.workspace
	read, err := r.configs.read(ctx, client.ObjectKey{Namespace: w.Namespace, Name: name}, key)
	if apierrors.IsNotFound(err) {
		s.block(stuck(kaitov1alpha1.ReasonConfigMapNotFound, fmt.Sprintf(
			"%s names the ConfigMap %s/%s, which does not exist: create it with the key %s, or remove the field",
			field,
			w.Namespace,
			name,
			key,
		)))
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading ConfigMap %s/%s: %w", w.Namespace, name, err)
	}
	switch {
	case !read.found:
		s.block(stuck(kaitov1alpha1.ReasonConfigMapNotFound, fmt.Sprintf(
			"%s names the ConfigMap %s/%s, which has no key %s: add it", field, w.Namespace, name, key)))
	case read.bytes > plan.MaxConfigBytes:
		s.block(stuck(kaitov1alpha1.ReasonInvalidConfig, fmt.Sprintf(
			"%s names the ConfigMap %s/%s, whose key %s has %d bytes: at most %d are allowed; shorten it",
			field,
			w.Namespace,
			name,
			key,
			read.bytes,
			plan.MaxConfigBytes,
		)))
	}
	return read.text, nil
}

// namedSecret is a Secret and the field that names it.
type namedSecret struct{ field, secret string }

// secretsOf lists the Secrets that a Workspace names, each once.
func secretsOf(w *kaitov1alpha1.Workspace) []namedSecret {
	var out []namedSecret
	add := func(field string, names ...string) {
		for _, name := range names {
			if name != "" && !slices.ContainsFunc(out, func(n namedSecret) bool { return n.secret == name }) {
				out = append(out, namedSecret{field: field, secret: name})
			}
		}
	}
	preset := func(field string, p *kaitov1alpha1.PresetSpec) {
		if p != nil && p.PresetOptions != nil {
			add(field+".presetOptions.modelAccessSecret", p.PresetOptions.ModelAccessSecret)
			add(field+".presetOptions.imagePullSecrets", p.PresetOptions.ImagePullSecrets...)
		}
	}
	add("metadata.annotations["+AnnotationAPIKeys+"]", w.Annotations[AnnotationAPIKeys])
	if i := w.Inference; i != nil {
		preset("inference.preset", i.Preset)
		for n, a := range i.Adapters {
			if a.Source != nil {
				add(fmt.Sprintf("inference.adapters[%d].source.imagePullSecrets", n), a.Source.ImagePullSecrets...)
			}
		}
	}
	if t := w.Tuning; t != nil {
		preset("tuning.preset", t.Preset)
		if t.Input != nil {
			add("tuning.input.imagePullSecrets", t.Input.ImagePullSecrets...)
		}
		if t.Output != nil {
			add("tuning.output.imagePushSecret", t.Output.ImagePushSecret)
		}
	}
	return out
}

// DryRunSecrets finds out whether a Secret exists without the right to read any: a create that is only a dry run is
// refused with AlreadyExists when it does.
type DryRunSecrets struct {
	// Client writes to the API server.
	Client client.Writer
}

// ErrUnguarded is returned when nothing keeps the operator from creating Secrets.
var ErrUnguarded = errors.New(
	"the operator may create Secrets, which the ValidatingAdmissionPolicy secret-existence is to refuse, and that policy does not hold for it: " +
		"apply the operator's manifests again (config/rbac/secret_existence_policy.yaml), or remove the rule for secrets from its role; the Workspace continues then",
)

const (
	// labelProbe marks a dry run that the policy refuses, so that the operator sees whether it holds.
	labelProbe = "kaito.sh/secret-existence-probe"
	// probeRefused is what the policy says then. It is in secret_existence_policy.yaml, too.
	probeRefused = "the secret-existence policy holds"
)

// guarded returns ErrUnguarded when the admission policy does not refuse what it is to refuse. Nothing is stored: the
// question is a dry run as well.
func (d DryRunSecrets) guarded(ctx context.Context, namespace string) error {
	err := d.Client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, GenerateName: "secret-existence-probe-", Labels: map[string]string{labelProbe: "true"},
	}}, client.DryRunAll)
	var refused apierrors.APIStatus
	switch {
	case err == nil:
		return ErrUnguarded
	case strings.Contains(err.Error(), probeRefused):
		return nil
	case errors.As(err, &refused) && refused.Status().Code < http.StatusInternalServerError:
		return nil // there is no right to guard, or another policy refuses first, as it will refuse the question
	}
	return fmt.Errorf("asking whether the policy for Secrets holds in %s: %w", namespace, err)
}

// Exists asks. What an admission policy, a quota or a missing right answers tells nothing about the Secret: it is not
// known then. The error is ErrUnguarded when the right to ask is a right to create.
func (d DryRunSecrets) Exists(ctx context.Context, key client.ObjectKey) (exists, known bool, err error) {
	if err := d.guarded(ctx, key.Namespace); err != nil {
		return false, false, err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	err = d.Client.Create(ctx, secret, client.DryRunAll)
	switch {
	case err == nil:
		return false, true, nil
	case apierrors.IsAlreadyExists(err):
		return true, true, nil
	case apierrors.IsInvalid(err):
		// A name that no Secret can have.
		return false, true, nil
	case apierrors.IsForbidden(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err):
		return false, false, nil
	}
	return false, false, fmt.Errorf("looking for Secret %s: %w", key, err)
}

// configKeys are what a Workspace is found by when a ConfigMap changes.
func configKeys(w *kaitov1alpha1.Workspace) []string {
	var out []string
	if w.Inference != nil && w.Inference.Config != "" {
		out = append(out, strings.Join([]string{w.Namespace, w.Inference.Config}, "/"))
	}
	if w.Tuning != nil && w.Tuning.Config != "" {
		out = append(out, strings.Join([]string{w.Namespace, w.Tuning.Config}, "/"))
	}
	return out
}
