// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"encoding/json"
	"flag"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	kaitov1beta1 "kaito.sh/shared/api/kaito/v1beta1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/schema"
)

// decoder is the decoder of informers and clients.
var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		kaitov1alpha1.AddToScheme, kaitov1beta1.AddToScheme, karpenterv1alpha5.AddToScheme, nodeclassv1alpha1.AddToScheme, tuningv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme).UniversalDeserializer()
}()

// all are read once, because compiling the rules takes longer than checking an object.
var all = sync.OnceValues(schema.Versions)

func kinds(t testing.TB) []string {
	versions, err := all()
	require.NoError(t, err)
	var out []string
	for _, v := range versions {
		if !slices.Contains(out, v.Kind) {
			out = append(out, v.Kind)
		}
	}
	return out
}

func versions(t testing.TB, kind string) []*schema.Version {
	versions, err := all()
	require.NoError(t, err)
	var out []*schema.Version
	for _, v := range versions {
		if kind == "" || v.Kind == kind {
			out = append(out, v)
		}
	}
	require.NotEmpty(t, out, "no CRD of kind %s", kind)
	return out
}

// accepted returns whether the API server accepts an object, and the stored object. The object is JSON, as a client
// sends it.
func accepted(t testing.TB, v *schema.Version, text []byte) ([]byte, error) {
	object := map[string]any{}
	require.NoError(t, utiljson.Unmarshal(text, &object))
	if err := v.Accept(object); err != nil {
		return nil, err
	}
	stored, err := json.Marshal(object)
	require.NoError(t, err)
	return stored, nil
}

func encode(t testing.TB, object map[string]any) []byte {
	text, err := json.Marshal(object)
	require.NoError(t, err)
	return text
}

func TestEveryKindHasABase(t *testing.T) {
	t.Parallel()
	for _, v := range versions(t, "") {
		bases, err := v.Bases()
		require.NoError(t, err)
		require.NotEmpty(t, bases, "%s %s: add a valid object to bases.go", v.APIVersion, v.Kind)
		for i, base := range bases {
			stored, err := accepted(t, v, encode(t, base))
			require.NoError(t, err, "%s base %d", v.Kind, i)
			_, _, err = decoder.Decode(stored, nil, nil)
			assert.NoError(t, err, "%s base %d", v.Kind, i)
		}
	}
}

var duration = flag.Duration("for", 0, "time that each kind is tried for; 0: a fixed number of objects")

// tries is the number of objects of each kind without -for.
const tries = 1500

// count counts the generated objects and the accepted ones.
type count struct{ tried, accepted int }

func TestAcceptedObjectsDecode(t *testing.T) {
	for _, kind := range kinds(t) {
		t.Run(kind, func(t *testing.T) {
			var total count
			begin := time.Now()
			for seed := uint64(0); total.tried < tries || time.Since(begin) < *duration; seed++ {
				try(t, kind, seed, &total)
				if t.Failed() {
					break
				}
			}
			t.Logf(
				"%s: %d objects tried in %s, %d accepted, each of those decoded", kind, total.tried,
				time.Since(begin).Round(time.Second), total.accepted,
			)
			assert.Greater(t, total.accepted, total.tried/10, "nearly all are refused: the generator does not test the decoder")
		})
	}
}

// try mutates each base of a kind with the seed. Accepted objects must decode.
func try(t *testing.T, kind string, seed uint64, total *count) {
	g := schema.NewGenerator(seed)
	for _, v := range versions(t, kind) {
		bases, err := v.Bases()
		require.NoError(t, err)
		for _, base := range bases {
			g.Mutate(v, base)
			total.tried++
			stored, err := accepted(t, v, encode(t, base))
			if err != nil {
				continue
			}
			total.accepted++
			object, _, err := decoder.Decode(stored, nil, nil)
			require.NoError(
				t, err, "seed %d: the API server accepts this object and no operator can decode it: %s", seed, stored,
			)
			decodeEmbedded(object)
		}
	}
}

// decodeEmbedded decodes embedded fields, which may fail and must not panic.
func decodeEmbedded(object runtime.Object) {
	volumes := func(d *kaitov1alpha1.DataSource) {
		if d != nil {
			_, _ = d.VolumeSource.Decode("v")
		}
	}
	switch o := object.(type) {
	case *kaitov1alpha1.Workspace:
		if o.Inference != nil {
			_, _ = o.Inference.Template.Decode("t")
			for _, a := range o.Inference.Adapters {
				volumes(a.Source)
			}
		}
		if o.Tuning != nil {
			volumes(o.Tuning.Input)
		}
	case *tuningv1alpha1.TuningJob:
		_, _ = o.Spec.Input.VolumeSource.Decode("v")
		_, _ = o.Spec.Output.VolumeSource.Decode("v")
		_, _ = o.Spec.Checkpoint.VolumeSource.Decode("v")
	}
}
