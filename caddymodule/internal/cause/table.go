package cause

// The causes, in the order of the documentation.
var (
	// What a page sends.
	SchemeAlone = add("scheme_alone", "the scheme is not followed by a token",
		"leave the Authorization header out while the visitor is not logged in, and wait for the token if the visitor is")
	WordForNothing = add("word_for_nothing", "the page has sent the word undefined or null instead of a token",
		"leave the Authorization header out while the visitor is not logged in, and wait for the token if the visitor is")
	WordForObject = add("word_for_object", "the page has sent an object that was converted to text, such as a promise, instead of a token",
		"await the promise, and send the token alone, as text")
	SchemeColon = add("scheme_colon", "the scheme is followed by a colon",
		"write a blank between the scheme and the token: Authorization: Bearer <token>")
	SchemeTwice = add("scheme_twice", "the scheme is written twice",
		"write it once: the client library adds \"Bearer \" itself, or the token was stored together with it")
	SchemeMissing = add("scheme_missing", "the Authorization header has a token without a scheme",
		"write \"Bearer \" in front of the token, or configure: token_from header Authorization")
	SchemeOther = add("scheme_other", "the Authorization header has a token with a scheme that token_from does not name, such as JWT or Token",
		"send the token as \"Bearer <token>\", or name the scheme: token_from header Authorization JWT")
	SchemeBasic = add("scheme_basic", "the Authorization header has a user name and a password (Basic), and a request has one such header",
		"send the token in another header beside basic_auth, and name that: token_from header X-Chat-Token")
	MarkerCase = add("marker_case", "a subprotocol is the marker or the prefix of token_from websocket_protocol in another case, and subprotocols are compared exactly",
		"write it in the page as token_from has it, or the other way round")

	// The form of the token.
	TextIsHeader = add("text_is_header", "the text begins with a header's name or a scheme",
		"give the token alone: what follows \"Bearer \"")
	TextIsSecret = add("text_is_secret", "this is a shared token, the secret itself, and not a token for a contact",
		"sign a token with it, and replace a secret that was sent to a browser or pasted somewhere: caddy messenger tokens reset")
	TextIsKey = add("text_is_key", "this is a key, not a token",
		"sign a token with the private key, and send the token")
	TextIsAddress = add("text_is_address", "this is an address, not a token",
		"send the token that the site has signed for the contact")
	TextAround = add("text_around", "the token is inside of other text: a cookie, an address or JSON",
		"give the token alone, from eyJ to the last character of its third segment; in a page, read it from there first")
	TextIsJSON = add("text_is_json", "this is JSON: the claims, or another serialization",
		"sign the claims with a JWT library and send the compact form, three segments with dots between them")
	TextSeveral = add("text_several", "these are several tokens, such as those of a header that was sent twice",
		"send one token, in one header")
	TextWrapped = add("text_wrapped", "the token has white space in it: it was wrapped, or other text was sent with it",
		"send it as one line, without anything in front of it or behind it")
	TextQuoted = add("text_quoted", "the token has quotes around it",
		"remove them: a token that was sent as JSON has to be read with JSON.parse, or response.json() in place of response.text()")
	TextPadded = add("text_padded", "the token has base64 padding (=), which a compact JWS leaves out",
		"use the library's own encoding, or base64url without padding (RFC 7515, appendix C)")
	TextStandardBase64 = add("text_standard_base64", "the token is encoded with the standard base64 alphabet (+ and /), or its percent-encoding was not decoded",
		"use base64url (- and _), as JWT libraries do")
	TokenEncrypted = add("token_encrypted", "the token has five segments: it is encrypted (JWE)",
		"let the login server sign without encrypting, such as Auth0 for a registered API (audience) instead of its opaque or encrypted default")
	HeaderAlone = add("header_alone", "the wrong part was copied: this is the header alone",
		"copy the whole token: header, payload and signature")
	PayloadAlone = add("payload_alone", "the wrong part was copied: this is the payload without its header",
		"copy the whole token: header, payload and signature")
	SignatureCut = add("signature_cut", "the signature is missing: only header and payload were copied",
		"copy the whole token, up to the end of the third segment")
	SignatureEmpty = add("signature_empty", "the signature is missing: the token ends with its second dot",
		"copy the whole token; if the library left the signature out, it signed with the algorithm none: set it to this messenger's")
	TokenCut = add("token_cut", "this is not a whole token: it has fewer than three segments",
		"send a JWT (an opaque access token or a session ID is not one), from its first to its last character")
	CharacterLost = add("character_lost", "a character of the header, payload or signature is missing, or there is one too many",
		"copy the token again, from the first to the last character")
	PayloadNotJSON = add("payload_not_json", "the payload is not JSON, although the signature is valid: it was signed like this, and not damaged afterwards",
		"let the site make it with a JSON encoder: names and texts in double quotes, no comma behind the last member, no NaN (json.dumps in Python writes it), no byte-order mark")
	KindOther = add("kind_other", "the header's typ says that the token is for another purpose, such as a logout token or a DPoP proof",
		"send the access token or the token that the site signed for the contact")

	TypeMissing = add("type_missing", "the header does not have a typ, and the messenger has a token_type",
		"sign with the header's typ set to it, as login servers do with access tokens (at+jwt); or remove token_type")
	TypeOther = add("type_other", "the header's typ is not the messenger's token_type: an ID token is usually a JWT, and an access token an at+jwt",
		"send the token of the named type, or set token_type to the typ that the site's tokens have")

	// Algorithm, key and signature.
	AlgXMLDSig = add("alg_xmldsig", "the header's alg is a name of XML signatures (http://www.w3.org/…), as .NET writes it",
		"use SecurityAlgorithms.RsaSha256 or HmacSha256 in .NET, without Signature at the end of the name")
	AlgNone = add("alg_none", "the header's alg is none: the token is not signed",
		"give the library the key, and this messenger's algorithm")
	AlgMissing = add("alg_missing", "the header's alg is absent, empty or not a string",
		"set the library's algorithm to this messenger's")
	AlgOther = add("alg_other", "the header's alg is not the algorithm of this messenger's keys",
		"set the library's algorithm to this messenger's, and sign with this messenger's key")
	KeyLeftOut = add("key_left_out", "the key set has keys that are left out, because the messenger's algorithms do not name theirs",
		"if the site signs with it, add the algorithm to the option algorithms of jwks")
	OtherMessenger = add("other_messenger", "the token is signed with the key of another messenger",
		"send it to that messenger, or sign with this one's key")
	KIDMissing = add("kid_missing", "the token does not have a kid, and the messenger has more keys than are tried",
		"sign with the kid of one of the messenger's keys")
	KIDUnknown = add("kid_unknown", "the token's kid is not that of an active key",
		"sign with an active key and its kid; or give the messenger the new key, or publish it at the messenger's URL")
	KIDOfAlgorithm = add("kid_of_algorithm", "the token's kid is that of a key for another algorithm than the header's alg",
		"sign with the algorithm of the key, or with another key and its kid")
	NonceOfGraph = add("nonce_of_graph", "the header has a nonce: this is an access token for Microsoft Graph, which only Graph can verify",
		"request a token for an application of your own: the scope api://<application ID>/.default, not https://graph.microsoft.com/…")
	OtherEnvironment = add("other_environment", "the token is from another environment: its issuer and a configured one differ in a part of the host",
		"send a token of this environment (test or production), or configure the issuer and the key of the other one")
	SecretDecodedBySite = add("secret_decoded_by_site", "the site decodes the secret before it signs; the gateway uses its text as it is",
		"configure shared_token with the site's encoding, or sign with the text itself")
	SecretDecodedHere = add("secret_decoded_here", "the site signs with the text of the secret as it is; the gateway decodes it first",
		"configure shared_token with the encoding raw, or decode the secret before signing")
	SecretWithBlank = add("secret_with_blank", "the site signs with the secret followed by a line break or blank",
		"trim the secret where the site reads it from its file or environment")
	SecretWithoutQuotes = add("secret_without_quotes", "the gateway's secret has quotes around it, and the site signs without them",
		"remove the quotes from the file or variable that shared_token names; env files of Docker keep them as a part of the value")
	SecretWithoutBreak = add("secret_without_break", "the gateway's secret has a line break in it, and the site signs without it",
		"write the secret on one line: openssl rand -base64 64 | tr -d '\\n'")
	SignatureLength = add("signature_length", "the signature has another length than this messenger's key makes",
		"copy the whole token again; otherwise the token was signed with another key")
	KeyOther = add("key_other", "the token was signed with another key, or changed after it was signed",
		"check that the site signs with the key that belongs to this messenger, of this environment (test or production)")
	KeysNotFetched = add("keys_not_fetched", "the key set cannot be fetched, or has not been fetched yet",
		"make the URL answer with a key set; the gateway tries again by itself, and at once with: caddy messenger refresh")

	// Claims.
	TimeMilliseconds = add("time_milliseconds", "a time counts milliseconds",
		"divide by 1000: a NumericDate counts seconds (in JavaScript Math.floor(Date.now() / 1000))")
	TimeString = add("time_string", "a time is a string",
		"write it as a JSON number of seconds since 1970, without quotes")
	TimeOther = add("time_other", "a time is not a date",
		"write it as a JSON number of seconds since 1970")
	TimePassed = add("time_passed", "the token has expired",
		"fetch a fresh token; if it is fresh, the site's clock is behind by about this time, or exp is set too early")
	TimeAhead = add("time_ahead", "a time is ahead of the gateway's clock by more than clock_skew",
		"synchronize the clock of the site, or of the gateway, with NTP; or leave the claim out")
	LifetimeLong = add("lifetime_long", "the token is valid for longer than max_lifetime",
		"set exp to at most iat plus max_lifetime")
	TokenIDOther = add("token_id_other", "the jti is neither a string nor an integer",
		"write it as a JSON string, or as an integer without fraction and exponent; or leave it out")
	AudienceOfCognito = add("audience_of_cognito", "this is an access token of Amazon Cognito, which has client_id and no aud",
		"send the ID token, whose aud is the client ID; or remove audience, and configure the user pool as issuer")
	IDTokenSent = add("id_token_sent", "this is an ID token, which a login server makes for the application in its aud, and not for an API",
		"send the access token for this audience; or, if contacts are to be known by ID tokens, add the application's client ID to audience")
	AccessTokenSent = add("access_token_sent", "this is an access token, made for the API in its aud; claims such as email are usually in the ID token alone",
		"send the token that this messenger is configured for, or configure audience and identity_key as the access token has them")
	ValueSlash = add("value_slash", "the token's value and a configured one differ by the final slash",
		"use the same spelling; they are compared exactly")
	ValueCase = add("value_case", "the token's value and a configured one differ in upper and lower case",
		"use the same spelling; they are compared exactly")
	ValueScheme = add("value_scheme", "the token's value and a configured one differ in the scheme",
		"use the same spelling; they are compared exactly")
	ValueAbsent = add("value_absent", "the token does not have the claim, or as something other than a string",
		"add it to the token with one of the configured values")
	ValueOther = add("value_other", "the token's value is none of the configured ones",
		"sign with one of these, or add the token's value to the option")
	ClaimsAbsent = add("claims_absent", "required claims are absent or null",
		"add them to the token")
	IdentityNested = add("identity_nested", "the identity is inside another claim",
		"put it at the top level of the token")
	IdentitySpelled = add("identity_spelled", "the token has the identity key in another spelling",
		"use the same spelling; names are compared exactly")
	IdentityElsewhere = add("identity_elsewhere", "the token does not have the identity key, but a claim that may contain the identity",
		"sign the identity under the name of identity_key, or configure identity_key with the name of that claim")
	IdentityAbsent = add("identity_absent", "the token does not have the identity key",
		"add the contact's primary key under this name")

	// The contact identity.
	IdentityFraction = add("identity_fraction", "the identity is a number with a fraction, such as 42.0",
		"sign an integer or a string: str(int(id)) in Python (pandas makes floats of columns with gaps), (string)(int)$id in PHP, Long or String instead of Double in Java and Gson, id.to_i in Ruby")
	IdentityExponent = add("identity_exponent", "the identity is a number with an exponent, such as 1e+14",
		"sign a string: string.format(\"%.0f\", id) in Lua, strconv.FormatInt in Go (a map[string]any makes a float64 of every number), String(id) in JavaScript, (string)(int)$id in PHP, String.valueOf of a Long in Java")
	IdentityRounded = add("identity_rounded", "the identity is a floating-point number beyond 2^53, of which digits were lost",
		"sign the ID as a string before any step makes a number of it: BigInt or String in JavaScript, json.Decoder.UseNumber in Go, JSON_BIGINT_AS_STRING in PHP, Long or String in Java")
	IdentityNegativeZero = add("identity_negative_zero", "the identity is -0",
		"sign 0, or the ID as a string")
	IdentityNull = add("identity_null", "the identity is null",
		"sign no token for a visitor who is not logged in, and look for the field that the site reads the ID from")
	IdentityBoolean = add("identity_boolean", "the identity is true or false",
		"sign the contact's primary key, not the answer to the question whether there is one (user && user.id in JavaScript)")
	IdentityArray = add("identity_array", "the identity is an array",
		"sign its one element, as a string or an integer")
	IdentityObject = add("identity_object", "the identity is an object",
		"sign the one member that is the contact's primary key, as a string or an integer")
	IdentityObjectID = add("identity_object_id", "the identity is an ObjectId of MongoDB as an object ($oid)",
		"sign its text: user._id.toString() in JavaScript, str(user[\"_id\"]) in Python")
	IdentityLong = add("identity_long", "the identity is a 64-bit integer as an object (low and high, or $numberLong), as long.js and MongoDB write it",
		"sign its text: id.toString()")
	IdentityBuffer = add("identity_buffer", "the identity is a buffer of bytes as an object (type and data, or $binary)",
		"sign its text: as a UUID, or id.toString('hex') in Node")
	IdentityEmpty = add("identity_empty", "the identity is empty",
		"sign the contact's primary key, and no token for a visitor who is not logged in")
	IdentityBlank = add("identity_blank", "the identity has only white space",
		"sign the contact's primary key, and no token for a visitor who is not logged in")
	IdentityEdges = add("identity_edges", "the identity begins or ends with white space",
		"trim it where the site reads it; a CHAR column of a database is padded with blanks (RTRIM)")
	IdentityControl = add("identity_control", "the identity has a control character in it",
		"sign the contact's primary key as it is; bytes, such as a binary UUID, as hexadecimal text")
	IdentityTooLong = add("identity_too_long", "the identity is longer than 255 bytes",
		"sign the contact's primary key alone, or the SHA-256 of a longer one")

	// Shared tokens.
	SecretQuoted = add("secret_quoted", "has quotes around it, which are a part of the secret",
		"remove the quotes if the site signs without them; env files of Docker keep them as a part of the value")
	SecretBroken = add("secret_broken", "has a line break in it, which is a part of the secret",
		"write it on one line if the site signs without the break: openssl rand -base64 64 | tr -d '\\n'")
	SecretMark = add("secret_mark", "begins with a byte-order mark, which is a part of the secret",
		"save the file as UTF-8 without the mark, which editors call UTF-8 without BOM")
	SecretAssigned = add("secret_assigned", "begins with a name and =, which are a part of the secret",
		"put the secret alone into the file, without the name of the variable")
	SecretLooksBase64 = add("secret_looks_base64", "looks like base64, and is used as it is",
		"write the encoding behind the placeholder: base64 or base64url if the site decodes the text first, raw if it signs with the text itself")
	SecretLooksHex = add("secret_looks_hex", "looks like hexadecimal, and is used as it is",
		"write the encoding behind the placeholder: hex if the site decodes the text first, raw if it signs with the text itself")

	// Keys.
	KeyEmpty = add("key_empty", "is empty",
		"give a public key as PEM or a JWK")
	KeyDamaged = add("key_damaged", "is damaged PEM: its BEGIN and END lines do not match or have other text on them, or what is between them is not base64",
		"copy the file again, from its BEGIN line to its END line, and check it: openssl pkey -pubin -in key.pem -noout")
	KeyUndecodable = add("key_undecodable", "contains a PEM block that cannot be decoded as what its BEGIN line says",
		"copy the file again, and look at what it is: openssl asn1parse -in key.pem")
	KeyOpenSSH = add("key_openssh", "is an OpenSSH key of another type",
		"give the line of an RSA key (ssh-rsa), without a certificate or a security token; ssh-keygen -e -m PKCS8 -f key.pub writes it as PEM")
	KeySSH2 = add("key_ssh2", "is an SSH2 public key (RFC 4716)",
		"convert it: ssh-keygen -i -f key.pub > openssh.pub")
	KeyPuTTY = add("key_putty", "is a key file of PuTTY, which contains the private key",
		"take the public one out of it: puttygen key.ppk -L > key.pub")
	KeyOpenPGP = add("key_openpgp", "is an OpenPGP key, which does not sign JWTs",
		"make a key pair for JWTs: caddy messenger generate --rsa <path>")
	KeyPKCS7 = add("key_pkcs7", "is a PKCS#7 bundle of certificates (.p7b)",
		"take the certificates out of it, and keep the one that signs: openssl pkcs7 -print_certs -in key.p7b (with -inform DER if it is binary)")
	KeyPKCS12 = add("key_pkcs12", "is a PKCS#12 file (.p12, .pfx), which usually contains the private key",
		"take the certificate out of it: openssl pkcs12 -in key.p12 -clcerts -nokeys -out certificate.pem")
	KeyJKS = add("key_jks", "is a Java key store (JKS)",
		"take the certificate out of it: keytool -exportcert -rfc -keystore store.jks -alias <alias> -file certificate.pem")
	KeyBinary = add("key_binary", "is binary of an unknown form",
		"look at what it is: file key, openssl asn1parse -inform DER -in key")
	KeyUTF16 = add("key_utf16", "is UTF-16 without a byte-order mark",
		"convert it: iconv -f UTF-16LE -t UTF-8 key.pem > key.utf8.pem")
	KeyXML = add("key_xml", "is an RSA key in XML, as .NET writes it",
		"write PEM in .NET: rsa.ExportSubjectPublicKeyInfoPem()")
	KeyHTML = add("key_html", "is a web page, not a key",
		"the address that it was saved from wants a login or has moved; save the key itself")
	KeyRequest = add("key_request", "is a certificate request (CSR)",
		"take the public key out of it: openssl req -in key.csr -pubkey -noout > key.pem")
	KeyParameters = add("key_parameters", "contains the parameters of a key, not the key",
		"give the public key: openssl pkey -in private.pem -pubout > key.pem")
	KeyPEMOther = add("key_pem_other", "contains a PEM block of another kind",
		"give PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE")
	KeySeveral = add("key_several", "contains more than one PEM block",
		"give each key a public_key line of its own")
	KeyPrivate = add("key_private", "contains a private key, which the gateway must not have",
		"give the public one: openssl pkey -in key.pem -pubout")
	KeyPrivateSSH = add("key_private_ssh", "contains an OpenSSH private key, which the gateway must not have",
		"give the public one: ssh-keygen -y -f key > key.pub")
	KeyAgreement = add("key_agreement", "is a key for key agreement (X25519, X448 or Diffie-Hellman), which cannot sign",
		"give the key that signs the tokens")
	KeyAlgorithmOther = add("key_algorithm_other", "is a key of an algorithm that is not known here",
		"look at what it is: openssl pkey -pubin -in key.pem -text -noout; make a usual one: caddy messenger generate --rsa <path>")
	KeyURL = add("key_url", "is a URL",
		"for keys from a URL use jwks")
	KeyFileName = add("key_file_name", "is a file name",
		"write {file./path/to/key.pem}")
	KeyPlaceholder = add("key_placeholder", "is a misspelled placeholder",
		"write {file./path/to/key.pem} or {env.NAME}, with a dot behind file or env")
	KeyArray = add("key_array", "is a JSON array",
		"give one JWK, or the URL of a key set with jwks")
	KeyBase64 = add("key_base64", "is base64 that is not a whole key",
		"copy the whole text again, from its first to its last character")
	KeyUnknown = add("key_unknown_form", "is text of an unknown form, not a public key",
		"give PEM (-----BEGIN PUBLIC KEY-----) or a JWK")
	SigningKeyOpenSSH = add("signing_key_openssh", "is an OpenSSH private key, which sign does not read",
		"convert a copy of it: cp key key.pem && ssh-keygen -p -m PEM -N '' -f key.pem")
	SigningKeyEncrypted = add("signing_key_encrypted", "is an encrypted private key",
		"decrypt a copy of it: openssl pkey -in key.pem")

	// Key servers.
	ServerAuthority = add("server_authority", "the key server's certificate is from an authority that the gateway does not know",
		"let the server send its intermediate certificates; name the certificates of a private authority: jwks <url> { ca <file> }, which accepts no others, or for all URLs the file in the environment variable SSL_CERT_FILE")
	ServerRedirect = add("server_redirect", "the key server redirects to another host or scheme",
		"configure the URL that it redirects to, if you trust that server")
	ServerEncoding = add("server_encoding", "the key server answers with a content encoding that was not asked for, or that is damaged",
		"let it send the key set as it is, or with gzip")
	ServerHTML = add("server_html", "the answer of the key server is a web page and not a JWK Set",
		"open the URL in a private window: the page wants a login, or the address has moved; look for jwks_uri in the server's /.well-known/openid-configuration")
	ServerDiscovery = add("server_discovery", "the answer of the key server is a discovery document and not a JWK Set",
		"configure the issuer that it has, with jwks { discovery <issuer> }, or the URL that it has in jwks_uri")
	ServerCertificateMap = add("server_certificate_map", "the answer of the key server is a map of certificates and not a JWK Set",
		"configure the URL of the same keys as a JWK Set, for Firebase https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com")
	ServerOther = add("server_other", "the answer of the key server is not a JWK Set",
		"the URL is to answer with {\"keys\":[…]}; look for jwks_uri in the server's /.well-known/openid-configuration")
	ServerCertificateOnly = add("server_certificate_only", "has only a certificate (x5c), without n and e",
		"publish n and e too, or give the messenger the certificate itself with public_key")

	// Addresses.
	PathPrefixGone = add("path_prefix_gone", "the path no longer has the part that names the messenger: uri strip_prefix, rewrite or handle_path has removed it before messenger_auth",
		"put messenger_auth in front of it in a route block, or count the parts of the path as they are there")
)

var (
	// table has the row of every cause. It is an array, so that programs that do not use it do not allocate memory for it.
	table [256]Info

	// last is the cause that was added last.
	last Cause
)

// add adds a cause to the table. The order of the declarations above is that of the numbers.
func add(name, text, fix string) Cause {
	last++
	table[last] = Info{name, text, fix}
	return last
}
