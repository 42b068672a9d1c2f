package fault

// Reasons.
const (
	ReasonSourceForbidden    = "SourceForbidden"
	ReasonSourceDenied       = "SourceDenied"
	ReasonSourceNotFound     = "SourceNotFound"
	ReasonSourceTooLarge     = "SourceTooLarge"
	ReasonSourceUnavailable  = "SourceUnavailable"
	ReasonSourceInvalid      = "SourceInvalid"
	ReasonChecksumMismatch   = "ChecksumMismatch"
	ReasonDatasetInvalid     = "DatasetInvalid"
	ReasonVolumeFull         = "VolumeFull"
	ReasonOutputInvalid      = "OutputInvalid"
	ReasonOutputDenied       = "OutputDenied"
	ReasonCredentialsInvalid = "CredentialsInvalid"
	ReasonFetchFailed        = "FetchFailed"
	ReasonInterrupted        = "Interrupted"
	ReasonPushFailed         = "PushFailed"
)
