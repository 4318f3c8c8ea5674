# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What the scripts share: this machine's packages, and a Python with the
# project's development dependencies.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tdxhost

# Debian packages that the scripts themselves use; the rest is in Debian roots
# that vtdx/vm/roots.py makes.
packages=(cpio e2fsprogs gcc git libc6-dev libglib2.0-dev make mmdebstrap
	openssh-client pkg-config python3-venv xz-utils)

say() {
	echo "tdxhost: $*" >&2
}

die() {
	say "$*"
	exit 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "installing packages needs root: run this as root, or install sudo"
	fi
}

# Install the packages that are missing.
need_packages() {
	command -v dpkg-query >/dev/null || die "this needs Debian 12 or 13: dpkg is not here"
	local package missing=()
	for package in "$@"; do
		[ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]} ..."
	local log
	log=$(mktemp)
	if ! { as_root apt-get -q update && as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -q install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "could not install ${missing[*]}"
	fi
	rm -f "$log"
}

# Make the Python environment unless it is there, and set $python to it.
need_python() {
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
		die "Python 3.11 or newer is needed"
	local key
	key=$({ python3 -VV && cat "$project/pyproject.toml"; } | sha256sum | cut -c1-16)
	# shellcheck disable=SC2034 # the scripts use it
	python=$cache/venv/$key/bin/python
	[ -e "$cache/venv/$key/complete" ] && return 0
	mkdir -p "$cache/venv"
	(
		flock 9
		[ -e "$cache/venv/$key/complete" ] || make_venv "$cache/venv/$key"
	) 9>"$cache/venv/lock"
}

make_venv() {
	say "installing Python packages ..."
	rm -rf "$1"
	python3 -m venv "$1"
	# The project itself is run from the checkout; only what it needs goes in.
	# shellcheck disable=SC2046
	if ! "$1/bin/python" -m pip install -q $(dependencies) >"$1/log" 2>&1; then
		tail -n 20 "$1/log" >&2
		die "could not install the Python packages"
	fi
	touch "$1/complete"
}

# The dependencies that pyproject.toml declares, one a line.
dependencies() {
	python3 - "$project/pyproject.toml" <<-'END'
		import sys, tomllib
		with open(sys.argv[1], "rb") as file:
		    meta = tomllib.load(file)
		project = meta["project"]
		needed = meta["build-system"]["requires"] + project["dependencies"]
		print(*(needed + project["optional-dependencies"]["dev"]), sep="\n")
	END
}

# Everything that the scripts run on. Python then finds vtdx and tdxhost here.
set_up() {
	need_packages "${packages[@]}"
	need_python
	export PYTHONPATH=$project PYTHONDONTWRITEBYTECODE=1
	export MYPY_CACHE_DIR=$cache/mypy RUFF_CACHE_DIR=$cache/ruff
	export HYPOTHESIS_STORAGE_DIRECTORY=$cache/hypothesis
}
