// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/catalog/hub"
	"kaito.sh/shared/trust"
	"kaito.sh/workspace-operator/internal/lookup"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// Ways to ask for nodes.
const (
	NodeAPIAuto      = "auto"
	NodeAPIMachine   = "machine"
	NodeAPINodeClaim = "nodeclaim"
	NodeAPINone      = "none"
)

// When adapters and weights come as image volumes.
const (
	ImageVolumesAuto   = "auto"
	ImageVolumesAlways = "always"
	ImageVolumesNever  = "never"
)

// Options are the operator's own settings.
type Options struct {
	NodeAPI      string
	NodeClass    string
	ImageVolumes string
	Images       serving.Images
	Registries   serving.Registries
	// Authorities is a ConfigMap with certificate authorities for what pods fetch; empty: the public ones alone.
	Authorities string
	Limits      placement.Limits
	// Region picks prices; empty: the lowest list price of all regions.
	Region string
	// Workers reconcile at once.
	Workers int
	// ModelHub is where models are described that the catalogue does not have, by HuggingFace's protocol; empty: nowhere.
	ModelHub string
	// ModelHubToken is shown to it; empty: none is.
	ModelHubToken string
	// ModelHubHTTP speaks to it; nil: a client of its own.
	ModelHubHTTP *http.Client
	// SecretRecheck is the time between two looks at what is not watched: a Secret that is missing, or an object that has
	// a needed name.
	SecretRecheck time.Duration
	// MaxNodes is the largest number of nodes that one Workspace may rent.
	MaxNodes int
	// RefusalRecheck is how long a Workspace whose pods are refused waits at first before it asks again.
	RefusalRecheck time.Duration
	// StatusHold is how long a status that reports only progress may be held back; 0: it is written at once.
	StatusHold time.Duration
}

// DefaultOptions are those of the flags.
func DefaultOptions() Options {
	return Options{
		NodeAPI: NodeAPIAuto, NodeClass: "kaito.sh/KaitoNodeClass/default", ImageVolumes: ImageVolumesAuto,
		Images: serving.Images{Gateway: "gateway:dev", Runner: "runner:dev"},
		Limits: placement.Limits{Acknowledge: 2 * time.Minute, GPUReady: 15 * time.Minute, NodeLost: 5 * time.Minute},
		// A pass waits for the API server most of its time: workers cost little, and a thousand Workspaces at once need them.
		Workers:       24,
		ModelHub:      hub.DefaultEndpoint,
		ModelHubToken: os.Getenv("HF_TOKEN"),
		SecretRecheck: 30 * time.Second,
		// 32 nodes of 8 GPUs are more than any model of the catalogue needs, and cost thousands of dollars an hour.
		MaxNodes:       32,
		RefusalRecheck: 30 * time.Second,
		StatusHold:     time.Second,
	}
}

// AddFlags adds the flags.
func (o *Options) AddFlags(fs *flag.FlagSet) {
	fs.StringVar(
		&o.NodeAPI, "node-api", o.NodeAPI,
		"how nodes are asked for: auto (Machine where its CRD is served, otherwise NodeClaim), machine, nodeclaim, or none (only existing nodes are used, and neither kind is read)",
	)
	fs.StringVar(
		&o.NodeClass, "node-class", o.NodeClass,
		"class of NodeClaims, as group/Kind/name: swapping the provider is this flag",
	)
	fs.StringVar(
		&o.ImageVolumes, "image-volumes", o.ImageVolumes,
		"mount adapters and weights as images: auto (where all the nodes can: kubelet 1.35, containerd 2.1), always or never",
	)
	fs.StringVar(&o.Images.Gateway, "gateway-image", o.Images.Gateway, "image of the gateway beside the engine")
	fs.StringVar(&o.Images.Runner, "runner-image", o.Images.Runner, "image that fetches adapters and weights")
	fs.StringVar(
		&o.Registries.Engine, "engine-registry", o.Registries.Engine,
		"registry that the images of engines are pulled from in the place of docker.io, a mirror of it, with a path if need be; empty: docker.io",
	)
	fs.StringVar(
		&o.Registries.Weights, "weights-registry", o.Registries.Weights,
		"registry that the weight images of the catalogue are pulled from: mcr.microsoft.com, where they are public, or a mirror of it, with a path if need be; empty: weights come from the model hub, at the catalogue's commit",
	)
	fs.StringVar(&o.Authorities, "ca-config-map", o.Authorities, trust.Usage)
	fs.DurationVar(
		&o.Limits.Acknowledge, "claim-ack-timeout", o.Limits.Acknowledge,
		"time a Machine, NodeClaim or TuningJob may stay without any condition before its controller is considered absent",
	)
	fs.DurationVar(
		&o.Limits.GPUReady, "gpu-ready-timeout", o.Limits.GPUReady,
		"how long a node that has joined may stay without its GPUs before it is replaced",
	)
	fs.DurationVar(
		&o.Limits.NodeLost, "node-lost-timeout", o.Limits.NodeLost,
		"how long a node in use may stay not Ready before it is replaced",
	)
	fs.StringVar(&o.Region, "region", o.Region, "Azure region that prices are of; empty: the lowest of all regions")
	fs.StringVar(
		&o.ModelHub, "model-hub", o.ModelHub,
		"where models come from, HuggingFace or a mirror of it, for engines and for what is outside the catalogue; empty: HuggingFace, and nothing outside the catalogue. The environment variable HF_TOKEN is shown to it",
	)
	fs.IntVar(&o.Workers, "workers", o.Workers, "Workspaces reconciled at once")
	fs.DurationVar(
		&o.SecretRecheck, "secret-recheck", o.SecretRecheck,
		"time between two looks at a Secret that is missing, or at another owner's object that has a needed name",
	)
	fs.IntVar(
		&o.MaxNodes, "max-nodes-per-workspace", o.MaxNodes,
		"largest number of nodes that one Workspace may rent; a Workspace whose plan has more is Stalled with the reason TooManyNodes. Nodes that exist already, and that a Workspace only uses, do not count",
	)
	fs.DurationVar(
		&o.RefusalRecheck, "refusal-recheck", o.RefusalRecheck,
		"how often a Workspace whose pods are refused by a ResourceQuota, Pod Security or an admission policy asks again at first; the interval grows to ten times this",
	)
	fs.DurationVar(
		&o.StatusHold, "status-hold", o.StatusHold,
		"time a status that reports only progress is held back so that the next change shares its write; at most 10s, 0: it is written at once. Verdicts and failures are never held back",
	)
}

// mostStatusHold is how long a person may be left without news of what goes well.
const mostStatusHold = 10 * time.Second

// Validate names every setting that can't be.
func (o *Options) Validate() error {
	switch o.NodeAPI {
	case NodeAPIAuto, NodeAPIMachine, NodeAPINodeClaim, NodeAPINone:
	default:
		return fmt.Errorf("--node-api is %q: want auto, machine, nodeclaim or none", o.NodeAPI)
	}
	switch o.ImageVolumes {
	case ImageVolumesAuto, ImageVolumesAlways, ImageVolumesNever:
	default:
		return fmt.Errorf("--image-volumes is %q: want auto, always or never", o.ImageVolumes)
	}
	if o.Workers < 1 {
		return fmt.Errorf("--workers is %d: want at least 1", o.Workers)
	}
	if o.MaxNodes < 1 {
		return fmt.Errorf("--max-nodes-per-workspace is %d: want at least 1", o.MaxNodes)
	}
	for name, value := range map[string]time.Duration{
		"claim-ack-timeout": o.Limits.Acknowledge, "gpu-ready-timeout": o.Limits.GPUReady,
		"node-lost-timeout": o.Limits.NodeLost, "secret-recheck": o.SecretRecheck, "refusal-recheck": o.RefusalRecheck,
	} {
		if value <= 0 {
			return fmt.Errorf("--%s is %s: want more than 0", name, value)
		}
	}
	if o.StatusHold < 0 || o.StatusHold > mostStatusHold {
		return fmt.Errorf("--status-hold is %s: want 0 to %s", o.StatusHold, mostStatusHold)
	}
	if u, err := url.Parse(o.ModelHub); err != nil ||
		o.ModelHub != "" && (u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return fmt.Errorf("--model-hub is %q: want an address such as %s, or nothing", o.ModelHub, hub.DefaultEndpoint)
	}
	_, err := o.class()
	return err
}

// mirror is the hub for engines; empty: HuggingFace, which they know.
func (o *Options) mirror() string {
	if o.ModelHub == hub.DefaultEndpoint {
		return ""
	}
	return o.ModelHub
}

// models reads what the catalogue does not have.
func (o *Options) models(c *catalog.Catalog, clk clock.PassiveClock) *lookup.Models {
	if o.ModelHub == "" {
		return lookup.New(c, nil, clk)
	}
	speaker := o.ModelHubHTTP
	if speaker == nil {
		speaker = &http.Client{}
	}
	return lookup.New(c, hub.Client{HTTP: speaker, Endpoint: o.ModelHub, Token: o.ModelHubToken}, clk)
}

func (o *Options) class() (karpv1.NodeClassReference, error) {
	class, err := placement.ParseClass(o.NodeClass)
	if err != nil {
		return class, fmt.Errorf("--node-class: %w", err)
	}
	return class, nil
}

// canMountImages returns whether all the nodes can mount images, as --image-volumes says.
func (o *Options) canMountImages(nodes []corev1.Node) bool {
	switch o.ImageVolumes {
	case ImageVolumesAlways:
		return true
	case ImageVolumesNever:
		return false
	}
	return serving.CanMountImages(nodes)
}

// claimAPIs returns the kinds that a Workspace may have claims of. Claims of a kind that --node-api no longer allows
// are still released. With none the operator has no right to read claims.
func (o *Options) claimAPIs() ([]placement.API, error) {
	class, err := o.class()
	if err != nil || o.NodeAPI == NodeAPINone {
		return nil, err
	}
	return []placement.API{placement.Machines{}, placement.NodeClaims{Class: class}}, nil
}

// allowsNew returns whether --node-api allows new claims of a kind.
func (o *Options) allowsNew(api placement.API) bool {
	switch o.NodeAPI {
	case NodeAPIMachine:
		return api.Kind() == (placement.Machines{}).Kind()
	case NodeAPINodeClaim:
		return api.Kind() == (placement.NodeClaims{}).Kind()
	}
	return true
}
