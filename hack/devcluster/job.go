// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/stack"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/cluster"
)

const (
	workspaceName = "workspace-tuning-phi-3"
	// pageName is the Workspace of docs/quickstart-inference.md, which users can continue with.
	pageName   = "workspace-phi-4-mini"
	pushSecret = "demo-registry"
	example    = "examples/fine-tuning/kaito_workspace_tuning_phi_3.yaml"
	question   = "What is Kaito?"
	look       = 200 * time.Millisecond
)

// job is the main job on a cluster that is up.
type job struct {
	*demo
	client     client.WithWatch
	kubeconfig string
	registry   string
	health     func() error
	// gateway is what answers for the simulated pods, asked when a cluster's API server cannot reach this machine.
	gateway string
}

// serve applies the quick start's Workspace and follows it until it answers.
func (j *job) serve(ctx context.Context) error {
	j.title("kubectl apply -f " + example)
	following, stop := context.WithCancel(ctx)
	defer stop()
	if err := follow(following, j.client, func(line string) { j.line("%s", line) }); err != nil {
		return err
	}
	if err := j.apply(ctx); err != nil {
		return err
	}
	if err := j.untilReady(ctx); err != nil {
		return err
	}
	stop()
	j.title("kubectl get workspace " + workspaceName)
	if err := j.kubectl(ctx, "get", "workspace", workspaceName); err != nil {
		return err
	}
	j.title("kubectl get service " + workspaceName)
	if err := j.kubectl(ctx, "get", "service", workspaceName); err != nil {
		return err
	}
	return j.chat(ctx)
}

// apply fills in the placeholders of the quick start's file and sends it, as kubectl would.
func (j *job) apply(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(j.root, example))
	if err != nil {
		return fmt.Errorf("reading the example: %w", err)
	}
	filled := strings.NewReplacer("ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE", j.registry+"/tuned/phi-3", "ACR_REGISTRY_SECRET_HERE", pushSecret).
		Replace(string(text))
	workspace := &kaitov1alpha1.Workspace{}
	if err := yaml.UnmarshalStrict([]byte(filled), workspace); err != nil {
		return fmt.Errorf("reading the example: %w", err)
	}
	workspace.Namespace = metav1.NamespaceDefault
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      pushSecret,
			Namespace: metav1.NamespaceDefault,
			Labels:    map[string]string{stack.LabelInstalled: "true"},
		},
		Type:       corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: fmt.Sprintf(`{"auths":{%q:{}}}`, j.registry)},
	}
	if err := j.client.Create(ctx, secret); err != nil {
		return fmt.Errorf("creating the push secret: %w", err)
	}
	if err := j.client.Create(ctx, workspace); err != nil {
		return fmt.Errorf("creating the Workspace: %w", err)
	}
	return nil
}

func (j *job) workspace() *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: workspaceName, Namespace: metav1.NamespaceDefault}}
}

func (j *job) untilReady(ctx context.Context) error {
	workspace := j.workspace()
	err := wait.PollUntilContextTimeout(ctx, look, readyWithin, true, func(ctx context.Context) (bool, error) {
		if err := j.health(); err != nil {
			return false, err
		}
		if err := j.client.Get(ctx, client.ObjectKeyFromObject(workspace), workspace); err != nil {
			return false, err
		}
		return conditions.IsTrue(workspace, kaitov1alpha1.ConditionWorkspaceReady), nil
	})
	if err != nil {
		text, _ := yaml.Marshal(workspace.Status)
		return fmt.Errorf("waiting for the Workspace to be Ready: %w; its status:\n%s", err, text)
	}
	return nil
}

// chat asks the quick start's question through the API server, the Service and the gateway.
func (j *job) chat(ctx context.Context) error {
	address, stop, err := j.forward(ctx)
	if err != nil {
		return err
	}
	defer stop()
	j.title(fmt.Sprintf("curl -X POST http://$CLUSTERIP/chat … -d '%s'   (by kubectl port-forward)", body()))
	answer, err := j.ask(ctx, address)
	if err != nil && j.gateway != "" {
		j.line("the API server does not reach this machine, where the pods are simulated (%v);", err)
		j.line("--node-ip (NODE_IP=…) may name a better address of it. Asked here, past the API server:")
		answer, err = j.ask(ctx, j.gateway)
	}
	if err != nil {
		return err
	}
	j.line("%s", answer)
	if !strings.Contains(answer, question) {
		return fmt.Errorf("the answer does not come from the engine: %s", answer)
	}
	return nil
}

func body() string { return fmt.Sprintf(`{"prompt":%q}`, question) }

// ask posts the quick start's question.
func (j *job) ask(ctx context.Context, address string) (string, error) {
	var out, errOut bytes.Buffer
	curl := exec.CommandContext(
		ctx,
		"curl",
		"-sS",
		"--fail-with-body",
		"--max-time",
		"20",
		"-X",
		"POST",
		"http://"+address+"/chat",
		"-H",
		"accept: application/json",
		"-H",
		"Content-Type: application/json",
		"-d",
		body(),
	)
	curl.Stdout, curl.Stderr = &out, &errOut
	if err := curl.Run(); err != nil {
		return "", fmt.Errorf("asking the model: %w: %s", err, strings.TrimSpace(out.String()+errOut.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// forward runs kubectl port-forward to the Service's port 80 and returns the local address.
func (j *job) forward(ctx context.Context) (string, func(), error) {
	kubectl, err := cluster.Binary("kubectl")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(
		ctx, kubectl, "--kubeconfig", j.kubeconfig, "port-forward", "--address", "127.0.0.1", "service/"+workspaceName, ":80",
	)
	var errOut bytes.Buffer
	command.Stderr = &errOut
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		cancel()
		return "", nil, fmt.Errorf("starting kubectl port-forward: %w", err)
	}
	stop := func() {
		cancel()
		_ = command.Wait() // it was just stopped
	}
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if found := forwarding.FindStringSubmatch(scanner.Text()); found != nil {
			return found[1], stop, nil
		}
	}
	stop()
	return "", nil, fmt.Errorf("kubectl port-forward ended: %s", errOut.String())
}

// release deletes the Workspace and shows that nothing is left.
func (j *job) release(ctx context.Context, left func(context.Context) ([]string, error)) error {
	j.title("kubectl delete workspace " + workspaceName)
	following, stop := context.WithCancel(ctx)
	defer stop()
	if err := follow(following, j.client, func(line string) {
		if strings.Contains(line, "being deleted") || strings.Contains(line, "gone") {
			j.line("%s", line)
		}
	}); err != nil {
		return err
	}
	if err := j.client.Delete(ctx, j.workspace()); err != nil {
		return fmt.Errorf("deleting the Workspace: %w", err)
	}
	var rest []string
	err := wait.PollUntilContextTimeout(ctx, look, goneWithin, true, func(ctx context.Context) (done bool, err error) {
		if err := j.health(); err != nil {
			return false, err
		}
		rest, err = left(ctx)
		return len(rest) == 0, err
	})
	stop()
	if err != nil {
		return errors.Join(
			fmt.Errorf("waiting for everything to go: %w", err), fmt.Errorf("still there: %s", strings.Join(rest, ", ")),
		)
	}
	j.title("Nothing is left")
	j.line(
		"no Machine, NodeClaim, Node, TuningJob, Job, Deployment, Service or pod of it in the cluster; no agent pool in the cloud",
	)
	return nil
}

func (j *job) kubectl(ctx context.Context, args ...string) error {
	binary, err := cluster.Binary("kubectl")
	if err != nil {
		return err
	}
	var out bytes.Buffer
	command := exec.CommandContext(ctx, binary, append([]string{"--kubeconfig", j.kubeconfig}, args...)...)
	command.Stdout, command.Stderr = &out, &out
	if err := command.Run(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	for line := range strings.Lines(out.String()) {
		_, _ = fmt.Fprint(j.out, "   "+line)
	}
	return nil
}
