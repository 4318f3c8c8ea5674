# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What scripts/install and scripts/uninstall share: where things are on a host.
# A host needs nothing of the development environment.
# shellcheck disable=SC2034 # the scripts use what is set here

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

umask 022

# As su, without a dash, leaves it to root.
PATH=$PATH:/usr/sbin:/sbin

usage_status=2
denied_status=4

# The Python environment lies in a folder of its own below $home, with current for a
# link to it; what people and shells look for are links into that.
prefix=/usr/local
home=$prefix/lib/tdxhost
current=$home/current
declare -A linked=(
	["$prefix/bin/tdxhost"]=bin/tdxhost
	["$prefix/share/man/man8/tdxhost.8"]=share/man/man8/tdxhost.8
	["$prefix/share/bash-completion/completions/tdxhost"]=share/bash-completion/completions/tdxhost
	["$prefix/share/zsh/site-functions/_tdxhost"]=share/zsh/site-functions/_tdxhost
	# fish looks below /usr/local only where XDG_DATA_DIRS tells it to.
	["/etc/fish/completions/tdxhost.fish"]=share/fish/vendor_completions.d/tdxhost.fish
)
rules=$prefix/lib/udev/rules.d/60-tdxhost.rules
at_boot=/etc/modules-load.d/tdxhost.conf
# In the search path of systemd on every distribution; enabled while a run goes on by itself.
unit=$prefix/lib/systemd/system/tdxhost-validate.service
unit_enabled=/etc/systemd/system/multi-user.target.wants/${unit##*/}
# Results of validation: the user's.
state=/var/lib/tdxhost
# Folders that were not there before, outermost first.
folders=$home/folders

# leave STATUS MESSAGE...
leave() {
	local status=$1
	shift
	say "$*"
	exit "$status"
}

need_root() {
	[ "$(id -u)" -eq 0 ] || leave $denied_status "this changes the system, and needs root: sudo $1"
}

# One at a time: both scripts hold the folder in which they work, and so does what they
# have started. Of a run that was killed that is still at work for a moment.
take_turns() {
	exec 9<"$prefix"
	flock -w 5 9 || die "scripts/install or scripts/uninstall is running already"
}

# Whether a path is a link that scripts/install makes.
is_ours() {
	[[ $(readlink "$1") == "$home"/* ]]
}

# quietly WHAT COMMAND...: output matters only when the command fails.
quietly() {
	local what=$1 log status=0
	shift
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || status=$?
	if [ $status -ne 0 ]; then
		say "$what failed ($1 exited with $status):"
		tail -n 25 "$log" >&2
	fi
	rm -f "$log"
	return $status
}

# dkms_setting NAME DEFAULT: as DKMS is told.
dkms_setting() {
	local said
	said=$(sed -n "s/^ *$1=//p" /etc/dkms/framework.conf /etc/dkms/framework.conf.d/*.conf \
		2>/dev/null | tail -n 1 | tr -d "\"'") || true
	echo "${said:-$2}"
}
sources=$(dkms_setting source_tree /usr/src)
dkms_tree=$(dkms_setting dkms_tree /var/lib/dkms)

# Take a version out of DKMS, from all kernels, and its source away.
dkms_drop() {
	if [ -d "$dkms_tree/tdxhost/$1" ]; then
		quietly "taking driver $1 out of DKMS" dkms remove -m tdxhost -v "$1" --all || return
	fi
	rm -rf "$sources/tdxhost-$1"
}

# Versions that DKMS has or whose source is there.
driver_versions() {
	local folder
	{
		for folder in "$dkms_tree"/tdxhost/*/source; do
			[ ! -L "$folder" ] || basename "$(dirname "$folder")"
		done
		for folder in "$sources"/tdxhost-*; do
			! grep -qs '^PACKAGE_NAME="tdxhost"$' "$folder/dkms.conf" || echo "${folder##*/tdxhost-}"
		done
	} | sort -u
}

reload_udev() {
	[ ! -S /run/udev/control ] || udevadm control --reload || say "udev did not reload its rules"
}

reload_systemd() {
	[ ! -d /run/systemd/system ] || systemctl daemon-reload || say "systemd did not reload its units"
}

# Unload the driver if it is loaded; false when it is and stays.
unload_driver() {
	[ ! -d /sys/module/tdxhost ] || rmmod tdxhost 2>/dev/null
}

why_loaded() {
	if [ "$(cat /sys/class/misc/tdxhost/status 2>/dev/null)" = unknown ]; then
		echo "something has /dev/tdxhost open, or uses it otherwise"
	else
		echo "the TDX module may hold memory, which only a reboot gives back"
	fi
}
