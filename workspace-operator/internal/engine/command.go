// SPDX-License-Identifier: Apache-2.0

package engine

// Server is what one container of a server runs.
type Server struct {
	// Model is an id of the model hub, or a path in the container. Revision is the id's commit; empty for a path.
	Model, Revision string
	// Flags are those of the plan (Engine.Flags).
	Flags Flags
	// Names are those by which clients ask for the base model.
	Names    []string
	Adapters []Adapter
	// ChatTemplate is a file in the container, which replaces that of the flags; empty: it does not.
	ChatTemplate string
	// MaxLoraRank is the highest rank of the adapters; 0: the engine's default.
	MaxLoraRank int
	// Host and Port are where the engine listens.
	Host string
	Port int
	// CacheDir is a folder for what the engine compiles and downloads.
	CacheDir string
}

// Adapter is a LoRA adapter in the container.
type Adapter struct{ Name, Path string }

// Ranks are the processes of one server, one a node.
type Ranks struct {
	Nodes int
	// Leader is the DNS name of rank 0, and Port where it waits for the others.
	Leader string
	Port   int32
	// Variable is the environment variable that holds the container's own rank.
	Variable string
}

// Command is how a container is started.
type Command struct {
	Command, Args []string
	// FollowerArgs are further arguments of all ranks but the first, where there are several.
	FollowerArgs []string
	Env          map[string]string
}
