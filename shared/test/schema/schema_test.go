package schema_test

import (
	"encoding/json"
	"testing"

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

// decoder is the one that informers and clients have.
func decoder(t testing.TB) runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		kaitov1alpha1.AddToScheme, kaitov1beta1.AddToScheme, karpenterv1alpha5.AddToScheme, nodeclassv1alpha1.AddToScheme, tuningv1alpha1.AddToScheme,
	} {
		require.NoError(t, add(scheme))
	}
	return serializer.NewCodecFactory(scheme).UniversalDeserializer()
}

func versions(t testing.TB, kind string) []*schema.Version {
	all, err := schema.Versions()
	require.NoError(t, err)
	var out []*schema.Version
	for _, v := range all {
		if kind == "" || v.Kind == kind {
			out = append(out, v)
		}
	}
	require.NotEmpty(t, out, "no CRD of kind %s", kind)
	return out
}

// accepted says whether the API server accepts an object, and returns what it stores. The object is JSON text, as a client sends it.
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
	decoder := decoder(t)
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

func fuzz(f *testing.F, kind string) {
	decoder := decoder(f)
	versions := versions(f, kind)
	for seed := range uint64(256) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := schema.NewGenerator(seed)
		for _, v := range versions {
			bases, err := v.Bases()
			require.NoError(t, err)
			for _, base := range bases {
				g.Mutate(v, base)
				stored, err := accepted(t, v, encode(t, base))
				if err != nil {
					continue
				}
				object, _, err := decoder.Decode(stored, nil, nil)
				require.NoError(t, err, "the API server accepts this object and no operator can decode it: %s", stored)
				decodeEmbedded(object)
			}
		}
	})
}

// decodeEmbedded decodes what is decoded later: it may fail, and must not panic.
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

func FuzzWorkspace(f *testing.F)      { fuzz(f, "Workspace") }
func FuzzTuningJob(f *testing.F)      { fuzz(f, "TuningJob") }
func FuzzMachine(f *testing.F)        { fuzz(f, "Machine") }
func FuzzKaitoNodeClass(f *testing.F) { fuzz(f, "KaitoNodeClass") }
