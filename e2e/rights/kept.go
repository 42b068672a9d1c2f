package rights

// Keep is why an operator keeps rights that the suites need not use.
type Keep struct {
	Operator, Group, Resource string
	Verbs                     []string
	Why                       string
}

// Kept are the rights that stay though no call of the suites may have needed them. Everything else that no call needs is to be taken out of
// the markers.
var Kept = []Keep{}
