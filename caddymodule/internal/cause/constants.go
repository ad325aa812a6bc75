package cause

// The causes, in the order of the documentation.
const (
	_ Cause = iota

	// What a page sends.
	SchemeAlone
	WordForNothing
	WordForObject
	SchemeColon
	SchemeTwice
	SchemeMissing
	SchemeOther
	SchemeBasic
	MarkerCase

	// The form of the token.
	TextIsHeader
	TextIsSecret
	TextIsKey
	TextAround
	TextIsJSON
	TextWrapped
	TextQuoted
	TextPadded
	TextStandardBase64
	TokenEncrypted
	HeaderAlone
	PayloadAlone
	SignatureCut
	SignatureEmpty
	TokenCut
	CharacterLost
	KindOther
	TypeMissing
	TypeOther

	// Algorithm, key and signature.
	AlgXMLDSig
	AlgNone
	AlgMissing
	AlgOther
	KeyLeftOut
	OtherMessenger
	KIDMissing
	KIDUnknown
	KIDOfAlgorithm
	NonceOfGraph
	OtherEnvironment
	SecretDecodedBySite
	SecretDecodedHere
	SecretWithBlank
	SecretWithoutQuotes
	SecretWithoutBreak
	SignatureLength
	KeyOther
	KeysNotFetched

	// Claims.
	TimeMilliseconds
	TimeString
	TimeOther
	TimePassed
	TimeAhead
	LifetimeLong
	TokenIDOther
	AudienceOfCognito
	IDTokenSent
	AccessTokenSent
	ValueSlash
	ValueCase
	ValueScheme
	ValueAbsent
	ValueOther
	ClaimsAbsent
	IdentityNested
	IdentitySpelled
	IdentityElsewhere
	IdentityAbsent

	// The contact identity.
	IdentityFraction
	IdentityExponent
	IdentityRounded
	IdentityNegativeZero
	IdentityNull
	IdentityBoolean
	IdentityArray
	IdentityObject
	IdentityObjectID
	IdentityLong
	IdentityBuffer
	IdentityEmpty
	IdentityBlank
	IdentityEdges
	IdentityControl
	IdentityTooLong

	// Shared tokens.
	SecretQuoted
	SecretBroken
	SecretMark
	SecretAssigned
	SecretLooksBase64
	SecretLooksHex

	// Keys.
	KeyEmpty
	KeyDamaged
	KeyUndecodable
	KeyOpenSSH
	KeySSH2
	KeyPuTTY
	KeyOpenPGP
	KeyPKCS7
	KeyPKCS12
	KeyJKS
	KeyBinary
	KeyUTF16
	KeyXML
	KeyHTML
	KeyRequest
	KeyParameters
	KeyPEMOther
	KeySeveral
	KeyPrivate
	KeyPrivateSSH
	KeyAgreement
	KeyAlgorithmOther
	KeyURL
	KeyFileName
	KeyPlaceholder
	KeyArray
	KeyBase64
	KeyUnknown
	SigningKeyOpenSSH
	SigningKeyEncrypted

	// Key servers.
	ServerAuthority
	ServerRedirect
	ServerEncoding
	ServerHTML
	ServerDiscovery
	ServerCertificateMap
	ServerOther
	ServerCertificateOnly

	// Addresses.
	PathPrefixGone

	end
)
