package fetch

// ParseContentRange is for the fuzzer.
var ParseContentRange = parseContentRange
