// SPDX-License-Identifier: Apache-2.0

package audit

import "slices"

// Filter returns whether a request is counted.
type Filter func(Request) bool

// User selects requests of any of the users, by their full names.
func User(names ...string) Filter {
	return func(r Request) bool { return slices.Contains(names, r.User) }
}

// ServiceAccount selects requests of the service account.
func ServiceAccount(namespace, name string) Filter {
	return User("system:serviceaccount:" + namespace + ":" + name)
}

// Resource selects requests on any of the resources, by their plural names, subresources included.
func Resource(names ...string) Filter {
	return func(r Request) bool { return slices.Contains(names, r.Resource) }
}

// Verb selects requests of any of the verbs.
func Verb(verbs ...string) Filter {
	return func(r Request) bool { return slices.Contains(verbs, r.Verb) }
}

// Namespace selects requests in the namespace.
func Namespace(name string) Filter {
	return func(r Request) bool { return r.Namespace == name }
}

// Object selects requests on the object, or on its subresources.
func Object(resource, namespace, name string) Filter {
	return func(r Request) bool { return r.Resource == resource && r.Namespace == namespace && r.Name == name }
}

// Not inverts a filter.
func Not(filter Filter) Filter {
	return func(r Request) bool { return !filter(r) }
}

func write(r Request) bool {
	switch r.Verb {
	case "create":
		// Reviews, tokens, port-forward and exec store nothing.
		return r.Group != "authorization.k8s.io" && r.Group != "authentication.k8s.io" &&
			!slices.Contains([]string{"token", "portforward", "exec", "attach", "proxy"}, r.Subresource)
	case "update", "patch", "delete", "deletecollection":
		return r.Subresource != "proxy"
	default:
		return false
	}
}

func passes(r Request, filters []Filter) bool {
	for _, filter := range filters {
		if !filter(r) {
			return false
		}
	}
	return true
}
