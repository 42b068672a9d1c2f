package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/cluster"
)

// Play decides how a job's pod fares. It may take its time: the pod's first step waits for it.
type Play func(ctx context.Context, pod *corev1.Pod) (cluster.Outcome, error)

// playJobs gives every new pod of a Job its outcome, until ctx ends.
func (s *Stack) playJobs(ctx context.Context) error {
	watcher, err := s.Client.Watch(ctx, &corev1.PodList{}, client.HasLabels{labelJob})
	if err != nil {
		return fmt.Errorf("watching the pods of jobs: %w", err)
	}
	s.background.Go(func() {
		defer watcher.Stop()
		for event := range watcher.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type == watch.Deleted || s.played[pod.UID] || !s.simulates(ctx, pod) {
				continue
			}
			s.played[pod.UID] = true
			outcome, err := s.options.Play(ctx, pod)
			if err != nil {
				s.say("simulated job %s: %v", pod.Name, err)
				continue
			}
			before := pod.DeepCopy()
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, cluster.OutcomeAnnotation, outcome.Annotation())
			if err := s.Client.Patch(ctx, pod, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil && ctx.Err() == nil {
				s.say("simulated job %s: %v", pod.Name, err)
			}
		}
	})
	return nil
}

// simulates says whether KWOK plays the pod: it is on a simulated node, and nobody has said yet how it fares.
func (s *Stack) simulates(ctx context.Context, pod *corev1.Pod) bool {
	if _, decided := pod.Annotations[cluster.OutcomeAnnotation]; decided || pod.Spec.NodeName == "" {
		return false
	}
	node := &corev1.Node{}
	err := s.Client.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, node)
	return err == nil && simulated(node)
}

// The figures that the simulated trainer reports; nothing is trained.
const (
	simulatedSteps = 120
	simulatedLoss  = 1.184
	stepTime       = 1500 * time.Millisecond
)

// TrainAndPush plays a job that goes well: fetching and training are simulated, and the push is real: the runner's own
// binary pushes an adapter to the registry, and what it writes to its termination log is what the pod's status shows.
func (s *Stack) TrainAndPush(ctx context.Context, pod *corev1.Pod) (cluster.Outcome, error) {
	folder, err := os.MkdirTemp(s.dir, "job-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the simulated job: %w", err)
	}
	fetched := map[string]any{"baseModel": argument(pod, "fetch", "--model"), "baseRevision": argument(pod, "fetch", "--model-revision"),
		"datasetDigest": "sha256:" + strings.Repeat("5", 64), "rows": 15011}
	trained := map[string]any{"fromStep": 0, "step": simulatedSteps, "totalSteps": simulatedSteps, "epoch": 1, "loss": simulatedLoss, "tokensPerSecond": 1900}
	pushed, err := s.push(ctx, folder, pod, fetched)
	if err != nil {
		return nil, err
	}
	return cluster.Outcome{
		"fetch": {After: stepTime, Message: termination("fetch", fetched)},
		"train": {After: stepTime, Message: termination("train", trained)},
		"push":  {After: stepTime, Message: pushed},
	}, nil
}

// termination is a step's message in the format of tuning-operator/README.md.
func termination(step string, result map[string]any) string {
	text, err := json.Marshal(map[string]any{"version": 1, "step": step, step: result})
	if err != nil {
		panic(err) // maps of text and numbers always marshal
	}
	return string(text)
}

// push runs the real runner on a tiny adapter and returns its termination message.
func (s *Stack) push(ctx context.Context, folder string, pod *corev1.Pod, facts map[string]any) (string, error) {
	adapter, facto, log := filepath.Join(folder, "adapter"), filepath.Join(folder, "facts.json"), filepath.Join(folder, "termination-log")
	if err := writeAdapter(adapter, fmt.Sprint(facts["baseModel"])); err != nil {
		return "", err
	}
	text, err := json.Marshal(facts)
	if err != nil {
		return "", fmt.Errorf("writing the facts: %w", err)
	}
	if err := os.WriteFile(facto, text, 0o600); err != nil {
		return "", fmt.Errorf("writing the facts: %w", err)
	}
	var out bytes.Buffer
	run := exec.CommandContext(ctx, s.binary("runner"), "push", "--from="+adapter, "--facts="+facto, "--to="+argument(pod, "push", "--to"),
		"--termination-log="+log, "--progress-address=127.0.0.1:0", "--allow-private")
	run.Env = append(os.Environ(), "SSL_CERT_FILE="+s.registry.caFile)
	run.Stdout, run.Stderr = &out, &out
	if err := run.Run(); err != nil {
		return "", fmt.Errorf("pushing the adapter: %w: %s", err, out.String())
	}
	message, err := os.ReadFile(log)
	if err != nil {
		return "", fmt.Errorf("reading what the runner said: %w", err)
	}
	return string(message), nil
}

// writeAdapter makes the smallest adapter that is whole: a config, and a safetensors file with one number.
func writeAdapter(folder, baseModel string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("making an adapter: %w", err)
	}
	config := fmt.Sprintf(`{"peft_type":"LORA","base_model_name_or_path":%q,"r":8,"lora_alpha":16,"target_modules":["qkv_proj"],"task_type":"CAUSAL_LM"}`, baseModel)
	// A safetensors file is the header's length, eight bytes little endian, and a JSON header.
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	tensors := append(append([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0}, header...), 0, 0, 0, 0)
	for name, content := range map[string][]byte{"adapter_config.json": []byte(config), "adapter_model.safetensors": tensors} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return fmt.Errorf("making an adapter: %w", err)
		}
	}
	return nil
}

// argument is the value of a flag of a container, empty when it has none.
func argument(pod *corev1.Pod, container, flag string) string {
	for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		if c.Name != container {
			continue
		}
		for _, arg := range c.Args {
			if value, ok := strings.CutPrefix(arg, flag+"="); ok {
				return value
			}
		}
	}
	return ""
}
