// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"kaito.sh/shared/podspec"
	"kaito.sh/shared/trust"
)

// shmSize is what tensor-parallel processes pass tensors through; a container's own /dev/shm has 64 MiB.
var shmSize = resource.MustParse("10Gi")

// sources are the volumes that weights and adapters come in, and the containers that fetch what no volume brings.
func sources(in Input) (volumes []corev1.Volume, inits []corev1.Container) {
	volumes = []corev1.Volume{emptyDir("cache")}
	if in.Engine.Parallel {
		size := shmSize.DeepCopy()
		volumes = append(volumes, corev1.Volume{Name: "shm", VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size},
		}})
	}
	if in.APIKeySecret != "" {
		volumes = append(volumes, secretVolume("keys", in.APIKeySecret))
	}
	secrets := pullSecrets(in)
	if image := in.Engine.WeightsImage; image != "" {
		if in.ImageVolumes && !in.Engine.WeightsArtifact {
			volumes = append(volumes, imageVolume("weights", image))
		} else {
			volumes = append(volumes, emptyDir("weights"))
			inits = append(
				inits,
				fetchContainer(
					in, "fetch-weights", "weights", weightsDir, image, weightsPath, in.Engine.PullSecrets, secrets,
				),
			)
		}
	}
	fetched := false
	for i, a := range in.Adapters {
		switch {
		case a.Volume != nil:
			volumes = append(volumes, corev1.Volume{Name: adapterVolume(i), VolumeSource: *a.Volume.DeepCopy()})
		case in.ImageVolumes:
			volumes = append(volumes, imageVolume(adapterVolume(i), a.Image))
		default:
			fetched = true
			inits = append(
				inits,
				fetchContainer(
					in, fmt.Sprintf("fetch-adapter-%d", i), "adapters", adaptersDir, a.Image, adapterMount(in, a), a.PullSecrets,
					secrets,
				),
			)
		}
	}
	if fetched {
		volumes = append(volumes, emptyDir("adapters"))
	}
	if len(inits) > 0 {
		volumes = append(volumes, emptyDir("tmp"))
		for i, name := range secrets {
			v := secretVolume(credentialVolume(i), name)
			v.Secret.Items = []corev1.KeyToPath{{Key: corev1.DockerConfigJsonKey, Path: "config.json"}}
			volumes = append(volumes, v)
		}
	}
	if gathers(in) {
		volumes = append(volumes, emptyDir("trusted"))
		inits = append(inits, trustContainer(in))
	}
	return volumes, inits
}

// gathers returns whether the engine downloads from a hub and needs a file of authorities.
func gathers(in Input) bool { return in.Authorities != "" && in.Engine.WeightsImage == "" }

// trustContainer writes the public authorities and the cluster's own into one file: an engine's libraries accept one
// file only.
func trustContainer(in Input) corev1.Container {
	c := runnerContainer(in, "trust", "trust", "--authorities="+trust.Folder, "--out="+trustedFile)
	c.VolumeMounts = []corev1.VolumeMount{{Name: "trusted", MountPath: trustedDir}}
	return c
}

// fetchContainer brings an image's /data into a folder, by our runner.
func fetchContainer(in Input, name, volume, mount, image, into string, secrets, all []string) corev1.Container {
	c := runnerContainer(in, name, "fetch", "--model-image="+image, "--model-dir="+into)
	c.VolumeMounts = []corev1.VolumeMount{{Name: volume, MountPath: mount}, {Name: "tmp", MountPath: "/tmp"}}
	for i, secret := range all {
		if !slices.Contains(secrets, secret) {
			continue
		}
		path := fmt.Sprintf("%s/%d", credentials, i)
		c.Args = append(c.Args, "--credentials="+path+"/config.json")
		c.VolumeMounts = append(
			c.VolumeMounts, corev1.VolumeMount{Name: credentialVolume(i), MountPath: path, ReadOnly: true},
		)
	}
	return c
}

// runnerMemory is the memory limit of our runner's containers. It is read only.
var runnerMemory = resource.MustParse("1Gi")

// runnerContainer is one call of our runner.
func runnerContainer(in Input, name string, args ...string) corev1.Container {
	return corev1.Container{
		Name: name, Image: in.Images.Runner, ImagePullPolicy: corev1.PullIfNotPresent,
		Args:                     append(args, "--termination-log="+terminLog),
		TerminationMessagePath:   terminLog,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          podspec.ContainerSecurityWithUser(),
		Env:                      []corev1.EnvVar{memoryLimit(runnerMemory)},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("250m"),
				corev1.ResourceMemory: resource.MustParse("256Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: runnerMemory},
		},
	}
}

// pullSecrets of weights and adapters, each once, in order.
func pullSecrets(in Input) []string {
	var out []string
	add := func(names []string) {
		for _, name := range names {
			if name != "" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	if in.Engine.WeightsImage != "" {
		add(in.Engine.PullSecrets)
	}
	for _, a := range in.Adapters {
		if a.Volume == nil {
			add(a.PullSecrets)
		}
	}
	return out
}

// adapterMount is the adapter's folder. What is fetched shares one volume; a volume of its own is mounted elsewhere,
// since a mount point can't be made in a volume that is mounted read-only.
func adapterMount(in Input, a Adapter) string {
	if a.Volume != nil || in.ImageVolumes {
		return mountsDir + "/" + a.Name
	}
	return adaptersDir + "/" + a.Name
}

// adapterPath is where the engine finds the adapter: an image that is mounted as it is has its files below /data.
func adapterPath(in Input, a Adapter) string {
	if a.Volume == nil && in.ImageVolumes {
		return adapterMount(in, a) + "/data"
	}
	return adapterMount(in, a)
}

func credentialVolume(i int) string { return fmt.Sprintf("credentials-%d", i) }

func emptyDir(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

func imageVolume(name, reference string) corev1.Volume {
	return corev1.Volume{
		Name: name,
		VolumeSource: corev1.VolumeSource{
			Image: &corev1.ImageVolumeSource{Reference: reference, PullPolicy: corev1.PullIfNotPresent},
		},
	}
}

func secretVolume(name, secret string) corev1.Volume {
	return corev1.Volume{
		Name: name,
		VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secret, DefaultMode: ptr.To[int32](0o440)},
		},
	}
}
