// Package integration tests the gateway from outside: a Caddyfile goes in, HTTP and WebSocket come out. It knows the
// module only by its registration, as a user does. A file's name begins with its subject:
//
//	assertion_ tokens that the gateway signs for backends
//	bench_     the benchmark does what it measures
//	command_   caddy messenger …
//	config_    Caddyfile and JSON: what is taken, what is refused and how, reloads
//	conn_      WebSockets and event streams, and their ends
//	docs_      the documentation, its samples and codes, and Caddyfile.example do what they say
//	explain_   what is said of a token that is refused
//	headers_   what reaches the backend, and that clients cannot set it
//	history_   random changes on several nodes under faults, and a model of what was acknowledged
//	jwks_      keys from a key server
//	keyfile_   keys from files, and their replacement
//	limit_     clients that send too much
//	methods_   changes of the validation method, discovery, imported secrets, nested identities
//	observe_   health, logs, metrics, traces
//	origin_    pages of other sites
//	panel_     the control panel, with a browser and without
//	revoke_    revocations of tokens, and what they end
//	route_     which messenger guards a request, whatever the routes around it
//	script_    xcaddy.sh
//	store_     messengers and tokens in Caddy's storage, on one node and on several; store_fault_ has a test for each fault
//	token_     which tokens are valid
//	widget_    messenger-auth.js in a browser
//	main_      what surrounds all tests: the search for secrets in what they left, and the comparison of metrics
//	helper_    what tests share: begin with start in helper_gateway_test.go, or newNode for a process of its own
//
// Caddy has one running configuration in a process, so that tests with a gateway in this one run one after the other. One
// that waits, or takes long, is run in another process beside them: see alone. Commands and nodes are the
// program in testdata/gateway, which starts quickly: see helper_process_test.go. Tests that start it, or another program, are run if
// they are asked for: see helper_tools_test.go. A test that replaces a configuration does so with load or replace, which wait
// until nothing of the old one accepts connections. MESSENGER_SOAK=1 runs the heavy tests in full: see soak.
package integration
