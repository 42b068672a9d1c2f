// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/podspec"
)

// progressPort is declared by one container only: the names of ports are unique in a pod.
func progressPort() []corev1.ContainerPort {
	return []corev1.ContainerPort{{Name: "progress", ContainerPort: ProgressPort}}
}

// runnerArgs returns the arguments that all commands of the runner have.
func runnerArgs(command string) []string {
	return []string{command, "--progress-address=:" + strconv.Itoa(ProgressPort), "--termination-log=" + terminationLog}
}

func fetchContainer(in Input) corev1.Container {
	tj := in.TuningJob
	c := container(Fetch, in.Options.RunnerImage)
	c.Args = append(runnerArgs("fetch"), "--facts="+factsFile)
	// Downloads are limited by the network. Rows are read in batches, so that memory does not grow with the dataset.
	c.Resources = small("500m", "512Mi", "4Gi")
	if in.Options.AllowPrivateSources {
		c.Args = append(c.Args, "--allow-private")
	}
	c.Args = append(c.Args, "--max-bytes="+strconv.FormatInt(fetchBytes(tj), 10))
	c.Args = append(c.Args, modelArgs(in)...)
	c.Args = append(c.Args, dataArgs(in)...)
	if in.Options.ModelHub != "" {
		c.Env = append(c.Env, corev1.EnvVar{Name: "HF_ENDPOINT", Value: in.Options.ModelHub})
	}
	if s := tj.Spec.Model.AccessSecret; s != "" {
		c.Env = append(c.Env, fromSecret("HF_TOKEN", s, "HF_TOKEN"))
	}
	if s := tj.Spec.Model.Source; s != nil && s.VolumeSource != nil {
		c.VolumeMounts = append(c.VolumeMounts, mount(volumeModel, modelDir, true))
	}
	if tj.Spec.Input.VolumeSource != nil {
		c.VolumeMounts = append(c.VolumeMounts, mount(volumeData, dataDir, true))
	}
	for i, s := range pullSecrets(tj) {
		c.Args = append(c.Args, "--credentials="+s.file())
		requireSecret(&c, s, "PULL_"+strconv.Itoa(i))
	}
	if tj.Spec.Output.Image != "" {
		c.Args = append(c.Args, "--check-push="+tj.Spec.Output.Image)
		for _, s := range pushSecret(tj) {
			c.Args = append(c.Args, "--push-credentials="+s.file())
			requireSecret(&c, s, "PUSH")
		}
	}
	c.Args = podspec.EscapeAll(c.Args)
	return c
}

// defaultFetchBytes limits the size of the sources of a TuningJob that requests no disk: 2 TiB, more than twice the
// largest model of the catalogue (805 GiB). The disk of the node usually has less space, which the runner checks before
// it writes.
const defaultFetchBytes = 2 << 40

// fetchBytes returns the largest size in bytes of the model and the dataset together. They are stored on the disk of
// the node, of which the pod may use spec.resources.requests[ephemeral-storage].
func fetchBytes(tj *tuningv1alpha1.TuningJob) int64 {
	if asked := tj.Spec.Resources.Requests.StorageEphemeral().Value(); asked > 0 {
		return asked
	}
	return defaultFetchBytes
}

func fromSecret(env, secret, key string) corev1.EnvVar {
	return corev1.EnvVar{Name: env, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key, Optional: ptr.To(false),
	}}}
}

// requireSecret mounts a docker config and makes it required. If the Secret or its key is missing, the reference from
// the environment puts that into the pod's status, where the controller reads it without access to Secrets. The volume
// alone would only cause an event.
func requireSecret(c *corev1.Container, s secretMount, name string) {
	c.VolumeMounts = append(c.VolumeMounts, mount(s.volume, secretsDir+"/"+s.volume, true))
	c.Env = append(c.Env, fromSecret("KAITO_REQUIRED_SECRET_"+name, s.secret, corev1.DockerConfigJsonKey))
}

func modelArgs(in Input) []string {
	m := in.TuningJob.Spec.Model
	switch {
	case m.Source != nil && m.Source.Image != "":
		return []string{"--model-image=" + m.Source.Image, "--model-dir=" + modelDir, "--model-name=" + in.Model.ID}
	case m.Source != nil:
		return []string{"--model-name=" + in.Model.ID}
	}
	args := []string{"--model=" + in.Model.ID, "--model-dir=" + modelDir}
	if in.Model.Revision != "" {
		args = append(args, "--model-revision="+in.Model.Revision)
	}
	return args
}

func dataArgs(in Input) []string {
	s, d := in.TuningJob.Spec.Input, in.Config.Dataset
	args := []string{"--dataset-dir=" + dataDir}
	switch {
	case len(s.URLs) > 0:
		for _, u := range s.URLs {
			args = append(args, "--dataset-url="+u)
		}
	case s.Image != "":
		args = append(args, "--dataset-image="+s.Image)
	case s.Dataset != "":
		id, revision, pinned := strings.Cut(s.Dataset, "@")
		args = append(args, "--dataset="+id)
		if pinned {
			args = append(args, "--dataset-revision="+revision)
		}
	}
	for _, f := range []struct{ flag, value string }{
		{"--dataset-path", d.Path}, {"--messages-column", d.MessagesColumn}, {"--prompt-column", d.PromptColumn},
		{"--completion-column", d.CompletionColumn}, {"--text-column", d.TextColumn},
	} {
		if f.value != "" {
			args = append(args, f.flag+"="+f.value)
		}
	}
	return args
}

func trainContainer(in Input, config string) corev1.Container {
	tj := in.TuningJob
	c := container(Train, in.Options.TrainerImage)
	c.Command = launcher(tj)
	c.Ports = progressPort()
	c.Env = []corev1.EnvVar{
		{Name: "KAITO_TRAINING_CONFIG", Value: podspec.Escape(config)},
		{Name: "KAITO_MODEL_DIR", Value: modelDir},
		{Name: "KAITO_DATA_DIR", Value: dataDir},
		{Name: "KAITO_ADAPTER_DIR", Value: adapterDir},
		{Name: "KAITO_CHECKPOINT_DIR", Value: checkpointDir},
		{Name: "KAITO_CHECKPOINT_STEPS", Value: itoa(ptr.Deref(tj.Spec.Checkpoint.EverySteps, defaultCheckpointSteps))},
		{Name: "KAITO_CHECKPOINT_KEEP", Value: itoa(ptr.Deref(tj.Spec.Checkpoint.Keep, defaultCheckpointKeep))},
		{Name: "KAITO_RESULT_FILE", Value: trainFile},
		{Name: "KAITO_TERMINATION_LOG", Value: terminationLog},
		{Name: "KAITO_PROGRESS_PORT", Value: strconv.Itoa(ProgressPort)},
		// The base model that the adapter names: the path of the folder is only valid in this pod.
		{Name: "KAITO_BASE_MODEL", Value: podspec.Escape(in.Model.ID)},
		{Name: "KAITO_FACTS_FILE", Value: factsFile},
		{Name: "HOME", Value: workDir + "/home"},
		{Name: "HF_HUB_OFFLINE", Value: "1"},
	}
	c.VolumeMounts = append(c.VolumeMounts, mount(volumeCheckpoint, checkpointDir, false))
	if parallel(tj) {
		c.VolumeMounts = append(c.VolumeMounts, mount(volumeShared, "/dev/shm", false))
	}
	if nodes(tj) > 1 {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: "rendezvous", ContainerPort: RendezvousPort})
	}
	if s := tj.Spec.Model.Source; s != nil && s.VolumeSource != nil {
		c.VolumeMounts = append(c.VolumeMounts, mount(volumeModel, modelDir, true))
	}
	if tj.Spec.Input.VolumeSource != nil {
		c.VolumeMounts = append(c.VolumeMounts, mount(volumeData, dataDir, true))
	}
	c.Resources = trainResources(tj)
	return c
}

// launcher returns the command of the trainer: one process for one GPU, or torchrun for more, started by a script that
// keeps the exit code of the workers. The Job controller sets JOB_COMPLETION_INDEX.
func launcher(tj *tuningv1alpha1.TuningJob) []string {
	const script = "/opt/kaito/train.py"
	if !parallel(tj) {
		return []string{"python", script}
	}
	args := []string{"python", "/opt/kaito/launch.py", "--nproc-per-node=" + itoa(max(gpus(tj), 1)), "--max-restarts=0"}
	if nodes(tj) > 1 {
		args = append(args, "--nnodes="+itoa(nodes(tj)), "--node-rank=$(JOB_COMPLETION_INDEX)",
			fmt.Sprintf("--master-addr=%s-0.%s", Name(tj), ServiceName(tj)), "--master-port="+strconv.Itoa(RendezvousPort))
	} else {
		args = append(args, "--standalone")
	}
	return append(args, script)
}

func trainResources(tj *tuningv1alpha1.TuningJob) corev1.ResourceRequirements {
	out := corev1.ResourceRequirements{Requests: tj.Spec.Resources.Requests.DeepCopy()}
	if n := gpus(tj); n > 0 {
		out.Limits = corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(int64(n), resource.DecimalSI)}
	}
	return out
}

func pushContainer(in Input) corev1.Container {
	tj := in.TuningJob
	c := container(Push, in.Options.RunnerImage)
	c.Args = append(runnerArgs("push"), "--from="+adapterDir, "--facts="+factsFile, "--train-result="+trainFile)
	c.Resources = small("100m", "128Mi", "1Gi")
	if in.Options.AllowPrivateSources {
		c.Args = append(c.Args, "--allow-private")
	}
	if tj.Spec.Output.VolumeSource != nil {
		c.Args = append(c.Args, "--to-volume="+outputDir)
		c.VolumeMounts = append(c.VolumeMounts, mount(volumeOutput, outputDir, false))
		return c
	}
	c.Args = append(c.Args, "--to="+podspec.Escape(tj.Spec.Output.Image))
	for _, s := range pushSecret(tj) {
		c.Args = append(c.Args, "--credentials="+s.file())
		c.VolumeMounts = append(c.VolumeMounts, mount(s.volume, secretsDir+"/"+s.volume, true))
	}
	return c
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
