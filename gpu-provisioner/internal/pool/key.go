// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/offering"
)

// Class is the part of a node class that shapes agent pools.
type Class struct {
	Name                       string
	ImageFamily                string
	OSDiskSizeGiB              int32
	OSDiskType                 string
	InstallGPUDriver           bool
	Zones                      []string
	SubnetID                   string
	Tags                       map[string]string
	SpotMaxPrice               string
	MaxPods                    int32
	CapacityReservationGroupID string
	// MaxNodesPerPool is 0 if the class does not override the operator's flag.
	MaxNodesPerPool int
}

// Key is everything that two claims must have in common to share a pool. Labels, annotations and startup taints are not
// part of it: Karpenter writes them to the Node at registration.
type Key struct {
	Size                       string            `json:"size"`
	CapacityType               string            `json:"capacityType"`
	Zone                       string            `json:"zone,omitempty"`
	ImageFamily                string            `json:"imageFamily,omitempty"`
	OSDiskSizeGiB              int32             `json:"osDiskSizeGiB,omitempty"`
	OSDiskType                 string            `json:"osDiskType,omitempty"`
	InstallGPUDriver           bool              `json:"installGPUDriver,omitempty"`
	MIGProfile                 string            `json:"migProfile,omitempty"`
	Taints                     []string          `json:"taints,omitempty"`
	NodeClass                  string            `json:"nodeClass"`
	SubnetID                   string            `json:"subnetID,omitempty"`
	Tags                       map[string]string `json:"tags,omitempty"`
	SpotMaxPrice               string            `json:"spotMaxPrice,omitempty"`
	MaxPods                    int32             `json:"maxPods,omitempty"`
	CapacityReservationGroupID string            `json:"capacityReservationGroupID,omitempty"`
}

// LabelMIGProfile is a label or a requirement of claims that need Nodes whose GPUs AKS has partitioned.
const LabelMIGProfile = "kaito.sh/mig-profile"

// Hash returns the part of a pool's name and tag that identifies the key.
func (k Key) Hash() string {
	raw, err := json.Marshal(k) // map keys are sorted by Marshal, taints by Placements
	if err != nil {
		panic(err) // cannot happen: the key has strings and numbers only
	}
	sum := sha256.Sum256(raw)
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:hashLength]
}

// Offering returns the offering that the key requests from Azure.
func (k Key) Offering(family string) offering.Offering {
	return offering.Offering{Size: k.Size, Family: family, Zone: k.Zone, CapacityType: k.CapacityType}
}

// Spec returns the agent pool of the key.
func (k Key) Spec(count int) azure.Spec {
	s := azure.Spec{
		Size:                       k.Size,
		Count:                      count,
		Spot:                       k.CapacityType == offering.Spot,
		OSSKU:                      k.ImageFamily,
		OSDiskSizeGiB:              k.OSDiskSizeGiB,
		OSDiskType:                 k.OSDiskType,
		InstallGPUDriver:           k.InstallGPUDriver,
		MIGProfile:                 k.MIGProfile,
		MaxPods:                    k.MaxPods,
		SubnetID:                   k.SubnetID,
		CapacityReservationGroupID: k.CapacityReservationGroupID,
		Taints:                     k.Taints,
		Tags:                       map[string]string{},
	}
	if k.Zone != "" {
		s.Zones = []string{k.Zone}
	}
	if price, err := strconv.ParseFloat(k.SpotMaxPrice, 32); err == nil && s.Spot {
		p := float32(price)
		s.SpotMaxPrice = &p
	}
	maps.Copy(s.Tags, k.Tags)
	s.Tags[azure.TagManagedBy] = azure.ManagedByValue
	s.Tags[azure.TagPoolKey] = k.Hash()
	return s
}

// RequestError says that a claim requests what this provider does not offer.
type RequestError struct{ Message string }

func (e *RequestError) Error() string { return e.Message }

// Placements returns the keys of the pools that can serve the claim, in the order of preference: by size, capacity type
// and zone, each in the order of the claim or its class.
func Placements(claim *karpv1.NodeClaim, class Class, location string) ([]Key, error) {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	for key, value := range map[string]string{
		corev1.LabelOSStable: string(corev1.Linux), corev1.LabelArchStable: karpv1.ArchitectureAmd64,
	} {
		if requirements.Has(key) && !requirements.Get(key).Has(value) {
			return nil, &RequestError{fmt.Sprintf("requirement %s is %s; allowed: %s", key, requirements.Get(key), value)}
		}
	}
	sizes := listed(claim, requirements, corev1.LabelInstanceTypeStable)
	if len(sizes) == 0 {
		return nil, &RequestError{
			fmt.Sprintf("requirement %s is missing; list at least one VM size with operator In", corev1.LabelInstanceTypeStable),
		}
	}
	capacityTypes, err := capacityTypes(claim, requirements)
	if err != nil {
		return nil, err
	}
	zones, err := zones(claim, requirements, class, location)
	if err != nil {
		return nil, err
	}
	base := Key{
		ImageFamily:                class.ImageFamily,
		OSDiskSizeGiB:              osDisk(claim, class),
		OSDiskType:                 class.OSDiskType,
		InstallGPUDriver:           class.InstallGPUDriver,
		MIGProfile:                 migProfile(claim, requirements),
		Taints:                     taints(claim.Spec.Taints),
		NodeClass:                  class.Name,
		SubnetID:                   class.SubnetID,
		Tags:                       class.Tags,
		SpotMaxPrice:               class.SpotMaxPrice,
		MaxPods:                    class.MaxPods,
		CapacityReservationGroupID: class.CapacityReservationGroupID,
	}
	var out []Key
	for _, size := range sizes {
		for _, capacityType := range capacityTypes {
			for _, zone := range zones {
				k := base
				k.Size, k.CapacityType, k.Zone = size, capacityType, zone
				out = append(out, k)
			}
		}
	}
	return out, nil
}

// listed returns the In values of a requirement, in the claim's order, without those that another requirement excludes.
func listed(claim *karpv1.NodeClaim, requirements scheduling.Requirements, key string) []string {
	var out []string
	for _, r := range claim.Spec.Requirements {
		if r.Key != key || r.Operator != corev1.NodeSelectorOpIn {
			continue
		}
		for _, v := range r.Values {
			if requirements.Get(key).Has(v) && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}

func capacityTypes(claim *karpv1.NodeClaim, requirements scheduling.Requirements) ([]string, error) {
	if !requirements.Has(karpv1.CapacityTypeLabelKey) {
		return []string{offering.OnDemand}, nil
	}
	known := []string{offering.OnDemand, offering.Spot}
	asked := listed(claim, requirements, karpv1.CapacityTypeLabelKey)
	if len(asked) == 0 { // NotIn, Exists
		asked = slices.DeleteFunc(
			slices.Clone(known), func(t string) bool { return !requirements.Get(karpv1.CapacityTypeLabelKey).Has(t) },
		)
	}
	asked = slices.DeleteFunc(asked, func(t string) bool { return !slices.Contains(known, t) })
	if len(asked) == 0 {
		return nil, &RequestError{
			fmt.Sprintf(
				"requirement %s is %s; allowed: %s", karpv1.CapacityTypeLabelKey, requirements.Get(karpv1.CapacityTypeLabelKey),
				strings.Join(known, ", "),
			),
		}
	}
	return asked, nil
}

// zones returns zone numbers; "" is a regional placement. The zone label of an AKS Node is <location>-<number>.
func zones(
	claim *karpv1.NodeClaim, requirements scheduling.Requirements, class Class, location string,
) ([]string, error) {
	if !requirements.Has(corev1.LabelTopologyZone) {
		if len(class.Zones) == 0 {
			return []string{""}, nil
		}
		return class.Zones, nil
	}
	requirement := requirements.Get(corev1.LabelTopologyZone)
	candidates := class.Zones
	if len(candidates) == 0 {
		for _, z := range listed(claim, requirements, corev1.LabelTopologyZone) {
			candidates = append(candidates, strings.TrimPrefix(z, location+"-"))
		}
	}
	var out []string
	for _, z := range candidates {
		if requirement.Has(z) || requirement.Has(ZoneLabel(location, z)) {
			out = append(out, z)
		}
	}
	if len(out) == 0 {
		return nil, &RequestError{
			fmt.Sprintf(
				"requirement %s is %s; allowed: %s-<zone>, of the zones %v of node class %s", corev1.LabelTopologyZone, requirement,
				location, class.Zones, class.Name,
			),
		}
	}
	return out, nil
}

// ZoneLabel returns the value of the label topology.kubernetes.io/zone of an AKS Node.
func ZoneLabel(location, zone string) string { return location + "-" + zone }

func migProfile(claim *karpv1.NodeClaim, requirements scheduling.Requirements) string {
	if v := claim.Labels[LabelMIGProfile]; v != "" {
		return v
	}
	if requirements.Has(LabelMIGProfile) {
		if values := requirements.Get(LabelMIGProfile).Values(); len(values) == 1 {
			return values[0]
		}
	}
	return ""
}

// minOSDiskGiB has room for the system and for an engine's image of about 20 GiB.
const minOSDiskGiB = 128

// osDisk returns the disk size of the class, or the one that the claim requests.
func osDisk(claim *karpv1.NodeClaim, class Class) int32 {
	if class.OSDiskSizeGiB > 0 {
		return class.OSDiskSizeGiB
	}
	asked := offering.Requests(claim.Spec.Resources.Requests)[corev1.ResourceEphemeralStorage]
	const gib = 1 << 30
	return int32(min(max(minOSDiskGiB, (asked.Value()+gib-1)/gib), 4095))
}

// taints returns the taints in AKS's notation, sorted, because their order in the claim must not change the key.
func taints(in []corev1.Taint) []string {
	var out []string
	for _, t := range in {
		out = append(out, fmt.Sprintf("%s=%s:%s", t.Key, t.Value, t.Effect))
	}
	slices.Sort(out)
	return out
}
