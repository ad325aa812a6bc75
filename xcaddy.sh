#!/usr/bin/env bash
#
# Builds Caddy with this module, runs the demo, and measures. See usage below.

set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)

usage() {
	cat <<'TEXT'
usage: ./xcaddy.sh [build] [<xcaddy argument>…]
       ./xcaddy.sh run [<xcaddy argument>…]
       ./xcaddy.sh bench
       ./xcaddy.sh -h

build  makes ./caddy: Caddy with this checkout of the module. Further arguments
       go to xcaddy; name the version of every module that you add:
           ./xcaddy.sh build --with github.com/pberkel/caddy-storage-redis@v1.8.1
run    builds, makes keys in demo/ where they are missing, serves
       Caddyfile.example until Ctrl-C, and prints requests to try. One demo
       runs from a checkout at a time.
bench  measures Caddy with and without authentication, in turn on the same
       core, and prints a table; about 15 minutes, on Linux, on a quiet machine.

environment:
  OUTPUT             the binary to make (default: caddy in this checkout)
  CADDY_VERSION      the version of Caddy (default: the one in go.mod)
  GOOS, GOARCH       the system to build for (build only)
  DEMO_PORT          the port of the demo's chat site (default: 8080)
  DEMO_BACKEND_PORT  the port of the demo's chat backend (default: 9000)
  DEMO_PANEL_PORT    the port of the demo's control panel (default: 8081)
  BENCH_ROUNDS, BENCH_SECONDS, BENCH_TOKENS
                     how often (5) and how long (5) each load is measured, and
                     how many tokens are used once (100000)
  BENCH_ONLY         measures only loads that have this in their name
TEXT
}

die() {
	printf 'xcaddy.sh: %s\n' "$*" >&2
	exit 1
}

main() {
	local command=build
	case ${1-} in
	-h | --help | help)
		usage
		return
		;;
	build | run | bench)
		command=$1
		shift
		;;
	'' | -*) ;;
	*)
		usage >&2
		die "unknown command: $1"
		;;
	esac
	check_go
	"$command" "$@"
}

# What would fail late, among the output of go and Caddy, is checked first: each in one line, with what to do.

check_go() {
	command -v go >/dev/null || die "the Go toolchain is needed, and go is not in PATH: https://go.dev/doc/install"
	local needed version cache reason
	needed=$(sed -n 's/^go //p' "$root/go.mod")
	# Outside this checkout: an old go cannot read its go.mod, and a new one would fetch another for it.
	version=$(cd / && GOTOOLCHAIN=local go version 2>&1) || version="one that does not run"
	version=${version#go version go}
	version=${version%% *}
	if [[ $version =~ ^1\.([0-9]+) ]] && ((BASH_REMATCH[1] < 21)); then
		die "Go $needed or newer is needed, and $(command -v go) is Go $version, which is too old to fetch it by itself: https://go.dev/doc/install"
	fi
	cache=$(cd / && GOTOOLCHAIN=local go env GOCACHE 2>/dev/null) || cache=
	if [[ $cache != /* && $cache != ?:* ]] || ! can_write "$cache"; then
		die "go has no folder for its build cache that $(user) can write to${cache:+ ($cache)}: set HOME to one, or GOCACHE and GOMODCACHE"
	fi
	check_space "$cache" GOCACHE
	[[ -d ${TMPDIR:-/tmp}/ && -w ${TMPDIR:-/tmp}/ ]] || die "$(user) cannot write to ${TMPDIR:-/tmp}, the folder for temporary files: set TMPDIR to another"
	check_space "${TMPDIR:-/tmp}" TMPDIR
	if ! reason=$(go -C "$root" list -m 2>&1 >/dev/null); then
		reason=${reason##*$'\n'}
		[[ $reason != *toolchain* && $reason != *TOOLCHAIN* && $reason != *"requires go"* ]] || reason+="; set GOTOOLCHAIN=auto to let go fetch Go $needed, or install it: https://go.dev/doc/install"
		die "go cannot use this module: $reason"
	fi
}

# check_output is about the binary.
check_output() {
	local path
	path=$(output)
	[[ ! -d $path ]] || die "OUTPUT is the folder $path; name the file to make"
	[[ -d ${path%/*}/ ]] || die "the folder of OUTPUT, ${path%/*}, does not exist"
	can_write "${path%/*}/" || die "$(user) cannot write $path: name another file with OUTPUT=<path>, or use a checkout of your own"
	check_space "${path%/*}/" OUTPUT
}

# claim_demo makes the demo's folder, and takes it for this process: a second demo would remove the admin socket of the
# first, and write to its keys.
claim_demo() {
	local demo=$root/demo file
	can_write "$demo" || die "$(user) cannot write to $demo, where the demo keeps its keys: use a checkout of your own"
	for file in "$demo" "$demo"/*; do
		[[ ! -e $file || -r $file && -w $file ]] || die "$(user) cannot read and write $file, which another user's demo made: use a checkout of your own"
	done
	mkdir -p "$demo"
	chmod 700 "$demo" 2>/dev/null || die "$demo belongs to another user: use a checkout of your own"
	# The descriptor goes on to Caddy, so that the lock ends with the process, however that ends.
	exec 9>>"$demo/lock"
	if command -v flock >/dev/null && ! flock -n 9 || demo_answers; then
		die "a demo already runs from this checkout: end it first, or run the second one from another checkout"
	fi
}

# demo_answers asks the admin socket: Caddyfile.example can be served without this script, too.
demo_answers() {
	[[ -S $root/demo/admin.sock ]] && command -v curl >/dev/null &&
		(cd "$root" && curl -s -o /dev/null --max-time 5 --unix-socket demo/admin.sock http://localhost/config/)
}

check_ports() {
	local name port lowest=1024 used=' '
	[[ ! -r /proc/sys/net/ipv4/ip_unprivileged_port_start ]] || read -r lowest </proc/sys/net/ipv4/ip_unprivileged_port_start
	for name in DEMO_PORT DEMO_BACKEND_PORT DEMO_PANEL_PORT; do
		port=${!name}
		if [[ ! $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
			die "$name is \"$port\", which is not a port: choose a number from 1 to 65535"
		fi
		((EUID == 0 || port >= lowest)) || [[ -n ${XCADDY_SETCAP-} ]] || die "$(user) cannot listen on port $port: choose one from $lowest on with $name"
		# Caddy shares a port with whoever has it already, and requests would go to either.
		! listening "$port" || die "port $port is in use; choose another with $name"
		[[ $used != *" $port "* ]] || die "$name is $port, which another part of the demo has: DEMO_PORT, DEMO_BACKEND_PORT and DEMO_PANEL_PORT are three ports"
		used+="$port "
	done
}

user() {
	id -un 2>/dev/null || id -u
}

# can_write reports whether files can be made in a folder, which may have to be made first.
can_write() {
	local folder
	folder=$(existing "$1")
	[[ -d $folder && -w $folder && -x $folder ]]
}

# existing prints the first folder upwards that exists.
existing() {
	local folder=$1
	until [[ -e $folder ]]; do
		folder=$(dirname -- "$folder")
	done
	printf '%s\n' "$folder"
}

# check_space wants 256 MiB in a folder, which $2 names. That is enough for most builds, and too little only where others
# fill the disk.
check_space() {
	local folder free
	folder=$(existing "$1")
	free=$(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print $4 }') || return 0
	[[ ! $free =~ ^[0-9]+$ ]] || ((free >= 256 * 1024)) || die "only $((free / 1024)) MiB are free in $folder: make room for 256, or name another folder with $2"
}

# output prints the path of the binary. A relative OUTPUT belongs to the folder from which this script was called.
output() {
	local path=${OUTPUT:-$root/caddy}
	if [[ -z ${OUTPUT-} && $(go env GOOS) == windows ]]; then
		path+=.exe
	fi
	[[ $path == /* ]] || path=$PWD/$path
	printf '%s\n' "$path"
}

build() {
	check_output
	local module version xcaddy commit flags
	module=$(go -C "$root" list -m)
	version=${CADDY_VERSION:-$(go -C "$root" list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2)}
	# xcaddy itself has to run here, whatever system the binary is for.
	xcaddy=$(env -u GOOS -u GOARCH -u GOARM -u GOFLAGS go -C "$root" tool -modfile=.ci/tools.mod -n xcaddy)
	# Go does not know the commit of a folder. The other flags are those of xcaddy.
	commit=$(git -C "$root" describe --always --abbrev=12 --dirty --exclude '*' 2>/dev/null || true)
	flags="-trimpath -ldflags '-w -s -X $module/caddymodule/internal/buildinfo.commit=$commit'"
	export XCADDY_GO_BUILD_FLAGS=${XCADDY_GO_BUILD_FLAGS:-$flags}
	# With a version, the go command does not ask the network for the versions of a module that it takes from here.
	interruptible "$xcaddy" build "$version" --output "$(output)" --with "$module@v0.0.0=$root" "$@"
}

# interruptible runs a command in a process group of its own, and ends the whole group if this script is ended: xcaddy goes
# on after an interrupt unless that ends the go command which it is running at that moment.
interruptible() {
	local job
	set -m
	"$@" </dev/null &
	job=$!
	set +m
	trap 'while kill -INT -- "-$job" 2>/dev/null; do sleep 0.2; done; exit 130' INT TERM
	wait "$job"
	trap - INT TERM
}

run() {
	unset GOOS GOARCH # the binary runs here
	export DEMO_PORT=${DEMO_PORT:-8080} DEMO_BACKEND_PORT=${DEMO_BACKEND_PORT:-9000} DEMO_PANEL_PORT=${DEMO_PANEL_PORT:-8081}
	claim_demo
	check_ports
	build "$@"
	local caddy
	caddy=$(output)

	cd "$root" # Caddyfile.example names its keys relative to here
	# What Caddy keeps for itself stays in demo/ too.
	export XDG_DATA_HOME=$root/demo XDG_CONFIG_HOME=$root/demo
	fill_demo "$caddy"
	check_ports # again: the build takes a while
	rm -f demo/admin.sock
	show_requests "$caddy" $$ &
	# As this process it gets Ctrl-C and every other signal itself.
	exec "$caddy" run --config Caddyfile.example --adapter caddyfile
}

# bench builds with the flags that xcaddy has by default: what measures, Caddy without the gateway, and Caddy with it.
bench() {
	(($# == 0)) || die "bench takes no arguments; BENCH_ROUNDS and others are in the environment"
	[[ $(uname -s) == Linux ]] || die "bench reads CPU times from /proc, which only Linux has"
	temp=$(mktemp -d)
	trap 'rm -rf "$temp"' EXIT
	env -u GOOS -u GOARCH go -C "$root" build -trimpath -ldflags '-w -s' -tags nobadger,nomysql,nopgx -o "$temp/" ./integration/testdata/bench/...
	local cores
	cores=$(nproc)
	if ((cores > 1)) && command -v taskset >/dev/null; then
		BENCH_PINNED=1 taskset -c "1-$((cores - 1))" "$temp/bench"
	else
		"$temp/bench"
	fi
}

listening() {
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null || (exec 3<>"/dev/tcp/::1/$1") 2>/dev/null
}

# fill_demo makes the keys of the demo once. They are kept, so that tokens signed with them stay valid. Secrets are in files that
# only their owner reads, and never among the arguments of a process, which every user of the machine sees.
fill_demo() (
	local caddy=$1
	umask 077
	if [[ ! -e demo/support.key.pem || ! -e demo/support.pub.pem ]]; then
		"$caddy" messenger generate --rsa demo/support
	fi
	if [[ ! -s demo/sales.token ]]; then
		"$caddy" messenger generate >demo/sales.token
	fi
	if [[ ! -e demo/billing.key.pem || ! -e demo/billing.pub.pem ]]; then
		"$caddy" messenger generate --rsa demo/billing
	fi
	if [[ ! -s demo/billing.jwks.json ]]; then
		"$caddy" messenger jwks demo/billing.pub.pem --kid demo >demo/billing.jwks.json
	fi
	if [[ ! -s demo/shop.token || ! -d demo/caddy/messenger/shop ]]; then
		"$caddy" messenger tokens reset shop --offline --new-store --config Caddyfile.example --adapter caddyfile >demo/shop.token
	fi
	if [[ ! -s demo/panel.password || ! -s demo/panel.hash ]]; then
		"$caddy" messenger generate | cut -c 5-20 >demo/panel.password
		# A password that is random cannot be guessed, however fast its hash is; a slow one would be waited for on every page.
		"$caddy" hash-password --bcrypt-cost 10 <demo/panel.password >demo/panel.hash
	fi
)

# show_requests prints the requests to try when the server, process $2, is up, so that its first log lines do not bury them.
show_requests() {
	local caddy=$1 server=$2
	umask 077
	sign_headers "$caddy"
	list_requests "$caddy" >demo/requests.txt
	until [[ -S demo/admin.sock ]] && listening "$DEMO_PORT" && listening "$DEMO_BACKEND_PORT" && listening "$DEMO_PANEL_PORT"; do
		kill -0 "$server" 2>/dev/null || return 0
		sleep 0.1
	done
	echo
	cat demo/requests.txt
}

# sign_headers writes a token for each messenger into a file that curl reads as a header.
sign_headers() {
	local caddy=$1 support other
	support=$("$caddy" messenger sign --key demo/support.key.pem --identity mark)
	header "$support" >demo/support.header
	# A forged token: the claims of one, the signature of another.
	other=$("$caddy" messenger sign --key demo/support.key.pem --identity eve)
	header "${other%.*}.${support##*.}" >demo/forged.header
	header "$("$caddy" messenger sign --key demo/sales.token --identity mark)" >demo/sales.header
	header "$("$caddy" messenger sign --key demo/billing.key.pem --kid demo --identity-key sub --identity mark --claim aud=chat)" >demo/billing.header
	header "$("$caddy" messenger sign --key demo/shop.token --identity mark)" >demo/shop.header
}

header() { printf 'Authorization: Bearer %s\n' "$1"; }

# list_requests prints what a person sees: it fits into a terminal of 80 columns and 24 lines, with an empty line above.
list_requests() {
	local caddy=$1 site=http://localhost:$DEMO_PORT password
	password=$(<demo/panel.password)
	[[ $caddy != "$root/caddy" ]] || caddy=./caddy
	caddy=$(printf %q "$caddy")
	cat <<TEXT
The demo runs until Ctrl-C. Its control panel, for a browser on this machine:
  http://localhost:$DEMO_PANEL_PORT   user: operator   password: $password
Requests to try in another terminal, which are also in demo/requests.txt:
  cd $(printf %q "$root")
A contact of support, whose site signs with an RSA key of its own (200):
  curl -i -H @demo/support.header $site/support/hello
A forged token: another contact, the same signature (401 signature_invalid):
  curl -i -H @demo/forged.header $site/support/hello
A contact of shop, whose shared token the gateway has generated (200):
  curl -i -H @demo/shop.header $site/shop/hello
A contact of sales, whose shared token is in a file (200):
  curl -i -H @demo/sales.header $site/sales/hello
The same in an address: a ticket, which is valid once, for 30 seconds (200):
  curl -i "$site/sales/hello?ticket=\$(
    curl -sX POST -H @demo/sales.header $site/sales/ticket |
      cut -d '"' -f 4)"
A contact of billing, whose site publishes its key at a URL (200):
  curl -i -H @demo/billing.header $site/billing/hello
No token, and an identity that the client made up (401 token_missing):
  curl -i -H 'X-Contact-Identity: mark' $site/support/hello
These tokens are valid for an hour. To sign one, and to see why it is refused:
  $caddy messenger sign --key demo/support.key.pem --identity zoe
  $caddy messenger explain support --address unix/demo/admin.sock
TEXT
}

main "$@"
