package schema

import "math"

// Values at which decoders differ from validators.
var (
	texts = []string{
		"", "x", "none", "1", "-1", "1.5", "1e1.5", "1e3", "1e99", "1e999999999", "1Ki", "1.5Ei", ".5", "5.", "+1", "0x10", "1_000", "NaN", "Inf", "null", "true",
		"100m", "9223372036854775808", "1h", "1m30s", "1d", "-1s", "2026-01-01T00:00:00Z", "2026-01-01t00:00:00z", "2026-13-01T00:00:00Z", "\u0000", "\u2028", "ü", "a/b",
		"https://example.com/a?b=c", "10.0.0.1", "aGVsbG8=", "$(A)", "{}", "[]", "lora", "Standard_NC24ads_A100_v4",
	}
	times = []string{
		"2026-01-01T00:00:00Z", "2026-01-01t00:00:00z", "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z",
		"2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T23:59:60Z", "2026-01-01T00:00:00,5Z", "2026-01-01T00:00:00x5Z", "0000-01-01T00:00:00Z",
		"9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2026-01-01T00:00:00+99:99", "2026-01-01T00:00Z", "now", "",
	}
	numbers = []any{
		int64(0), int64(1), int64(-1), int64(100), int64(math.MaxInt32), int64(math.MaxInt32) + 1, int64(math.MinInt32) - 1, int64(math.MaxInt64), int64(math.MinInt64),
		float64(1), 1.5, -0.5, 1e10, 1e19, 1e30, -1e30, 1e300, math.SmallestNonzeroFloat64, float64(1 << 53),
	}
	keys = []string{"cpu", "memory", "nvidia.com/gpu", "a", "", "A/B", "ephemeral-storage", "evictionHard"}
	// podFields are names in pod templates and volume sources.
	podFields = []string{
		"metadata", "labels", "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "spec", "containers", "initContainers", "name", "image", "args", "env",
		"ports", "containerPort", "resources", "limits", "requests", "cpu", "volumes", "volumeMounts", "persistentVolumeClaim", "claimName", "emptyDir", "sizeLimit", "hostPath",
		"configMap", "items", "defaultMode", "secret", "projected", "sources", "csi", "volumeAttributes", "image", "reference", "nodeSelector", "tolerations", "tolerationSeconds",
		"affinity", "securityContext", "runAsUser", "livenessProbe", "httpGet", "port", "terminationGracePeriodSeconds", "priority", "dnsConfig", "overhead", "unknownField",
	}
)
