// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	gojson "encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/util/json"
)

// InvalidError says that the value of a field does not match its type in the Kubernetes API.
// +kubebuilder:object:generate=false
type InvalidError struct {
	// Path is the path of the smallest field that does not decode, for example
	// inference.template.spec.containers[0].image.
	Path string
	// Value is the value of the field as JSON, shortened to maxValue bytes.
	Value string
	// Want is the type of the whole embedded field, for example "a core/v1 PodTemplateSpec".
	Want string
	// Cause is the decoder's error.
	Cause error
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf(
		"%s: invalid value %s: %v. Correct the field, which is part of %s; `kubectl explain pod` lists the fields and their types",
		e.Path,
		e.Value,
		e.Cause,
		e.Want,
	)
}

// Unwrap returns the decoder's error.
func (e *InvalidError) Unwrap() error { return e.Cause }

// decode decodes raw as the API server does: field names are case-sensitive, and unknown fields are dropped.
func decode[T any](raw []byte, path, want string) (*T, error) {
	out := new(T)
	if len(raw) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		bad := locate[T](raw)
		return nil, &InvalidError{Path: path + bad.path, Value: bad.shown(), Want: want, Cause: plain(bad.cause(err))}
	}
	return out, nil
}

// marshal returns raw, or null if it is unset.
func marshal(raw []byte) []byte {
	if len(raw) == 0 {
		return []byte("null")
	}
	return raw
}

// encode returns v as JSON. v is a type of the Kubernetes API, which can always be marshalled.
func encode(v any) []byte {
	raw, err := gojson.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("marshalling %T: %v", v, err))
	}
	return raw
}
