// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"context"
	"fmt"
	"io/fs"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"kaito.sh/shared/api/crds"
)

// Version is one served version of a kind.
type Version struct {
	Kind, APIVersion string
	structural       *schema.Structural
	validator        validation.SchemaValidator
	rules            *cel.Validator
}

// Versions reads all CRDs of the API module. It returns a Version for each served version of a kind.
func Versions() ([]*Version, error) {
	files, err := fs.Glob(crds.FS, "*.yaml")
	if err != nil {
		return nil, err
	}
	var out []*Version
	for _, file := range files {
		raw, err := crds.FS.ReadFile(file)
		if err != nil {
			return nil, err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(raw, crd); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for i := range crd.Spec.Versions {
			v, err := newVersion(crd, &crd.Spec.Versions[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			out = append(out, v)
		}
	}
	return out, nil
}

func newVersion(
	crd *apiextensionsv1.CustomResourceDefinition, version *apiextensionsv1.CustomResourceDefinitionVersion,
) (*Version, error) {
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(
		version.Schema.OpenAPIV3Schema, internal, nil,
	); err != nil {
		return nil, err
	}
	v := &Version{Kind: crd.Spec.Names.Kind, APIVersion: crd.Spec.Group + "/" + version.Name}
	var err error
	if v.structural, err = schema.NewStructural(internal); err != nil {
		return nil, err
	}
	if v.validator, _, err = validation.NewSchemaValidator(internal); err != nil {
		return nil, err
	}
	v.rules = cel.NewValidator(v.structural, true, celconfig.PerCallLimit)
	return v, nil
}

// Accept handles an object as the API server does on a create: it prunes and defaults the object in place and validates
// it. The error is the refusal of the API server. A status is kept, as if it was written to the status subresource.
func (v *Version) Accept(object map[string]any) error {
	pruning.Prune(object, v.structural, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, v.structural)
	defaulting.Default(object, v.structural)
	errs := validation.ValidateCustomResource(nil, object, v.validator)
	if len(errs) == 0 {
		errs = listtype.ValidateListSetsAndMaps(nil, v.structural, object)
	}
	if len(errs) == 0 && v.rules != nil {
		errs, _ = v.rules.Validate(context.Background(), nil, v.structural, object, nil, celconfig.RuntimeCELCostBudget)
	}
	return errs.ToAggregate()
}

// Copy returns a deep copy of an object's JSON.
func Copy(object map[string]any) map[string]any { return runtime.DeepCopyJSON(object) }
