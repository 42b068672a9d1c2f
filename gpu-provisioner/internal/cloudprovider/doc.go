// SPDX-License-Identifier: Apache-2.0

// Package cloudprovider implements Karpenter's CloudProvider with the pool engine. Its methods answer from the claim,
// the cached view of Azure and the engine's last decision. They never call Azure, and they return at once.
package cloudprovider
