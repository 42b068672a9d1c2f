// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/shared/catalog"
)

func parse(t *testing.T, args ...string) *Options {
	o := DefaultOptions()
	fs := flag.NewFlagSet(Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.AddFlags(fs)
	require.NoError(t, fs.Parse(args))
	return &o
}

func TestValidate(t *testing.T) {
	assert.NoError(t, parse(t).Validate(), "the defaults")
	for arg, want := range map[string]string{
		"--max-nodes-per-pool=0":    "--max-nodes-per-pool is 0; allowed: 1 to 1000",
		"--max-nodes-per-pool=1001": "--max-nodes-per-pool is 1001; allowed: 1 to 1000",
		"--azure-call-rate=0":       "--azure-call-rate is 0; allowed: more than 0, to 100",
		"--refresh-idle=0s":         "--refresh-idle is 0s; allowed: more than 0",
		"--node-join-timeout=-1s":   "--node-join-timeout is -1s; allowed: more than 0",
		"--node-join-timeout=15m":   "--node-join-timeout is 15m0s; allowed: less than 15m0s, after which Karpenter deletes the claim without a reason",
	} {
		assert.EqualError(t, parse(t, arg).Validate(), want)
	}
}

func TestNamespace(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "pods")
	ns, err := parse(t).namespace()
	require.NoError(t, err)
	assert.Equal(t, "pods", ns)
	ns, err = parse(t, "--namespace=flags").namespace()
	require.NoError(t, err)
	assert.Equal(t, "flags", ns)
	t.Setenv("POD_NAMESPACE", "")
	_, err = parse(t).namespace()
	assert.ErrorContains(t, err, "--namespace")
}

func TestManagesOnlyClaimsOfAKaitoNodeClass(t *testing.T) {
	claim := func(group, kind string) *karpv1.NodeClaim {
		return &karpv1.NodeClaim{
			Spec: karpv1.NodeClaimSpec{NodeClassRef: &karpv1.NodeClassReference{Group: group, Kind: kind}},
		}
	}
	assert.True(t, manages(claim("kaito.sh", "KaitoNodeClass")))
	assert.False(t, manages(claim("karpenter.azure.com", "AKSNodeClass")))
	assert.False(t, manages(claim("karpenter.kwok.sh", "KaitoNodeClass")))
	assert.False(t, manages(&karpv1.NodeClaim{}))
}

func TestSizesHaveWhatTheQuotaCheckNeeds(t *testing.T) {
	loaded, err := catalog.Load()
	require.NoError(t, err)
	known := sizes{catalog: loaded}
	require.NotEmpty(t, known.Sizes())
	for _, s := range known.Sizes() {
		assert.Positive(t, s.VCPUs, s.Name)
		assert.Positive(t, s.GPUs, s.Name)
		assert.NotEmpty(t, s.Family, s.Name)
		again, ok := known.Size(s.Name)
		assert.True(t, ok)
		assert.Equal(t, s, again)
	}
	_, ok := known.Size("Standard_Moon")
	assert.False(t, ok)
}
