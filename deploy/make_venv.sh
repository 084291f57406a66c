#!/bin/sh
# Usage: make_venv.sh FOLDER REQUIREMENTS
#
# Makes FOLDER a virtual environment with everything in REQUIREMENTS, on the newest CPython on PATH
# for which all pins can be had. UV names the version of uv that pip installs; uv is ten times as
# fast as pip, and does without Python's own `ensurepip`, which Debian keeps in a package apart.
set -u
venv=$1 requirements=$2 uv_version=${UV:-uv}
# The oldest version on which the pins resolve and the tests pass: Debian 12's own.
least=3.11.2
log=$(mktemp) && trap 'rm -f "$log"' EXIT
# The system's certificates are for networks with a proxy of their own.
export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1

# Prints "rank version executable", or "- reason executable" for an interpreter that will not do.
# A virtual environment stands for the interpreter that it was made with. The rank sorts as text.
probe='
import sys
version = ".".join(map(str, sys.version_info[:3]))
path = getattr(sys, "_base_executable", None) or sys.executable
least = tuple(map(int, sys.argv[1].split(".")))
if sys.implementation.name != "cpython":
    print("-", version + ",_not_CPython", path)
elif sys.version_info[3] != "final":
    print("-", version + ",_not_a_final_release", path)
elif sys.version_info[:3] < least:
    print("-", version + ",_too_old", path)
else:
    print("%03d%03d%03d" % sys.version_info[:3], version, path)
'

# Names alone are not enough: a shim of pyenv may stand for a version that is not selected, and a
# later folder of PATH may have the real one.
find_pythons() {
    echo "$PATH" | tr : '\n' | while IFS= read -r folder; do
        for program in "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9] "$folder"/python3; do
            [ -f "$program" ] && [ -x "$program" ] || continue
            "$program" -I -c "$probe" "$least" </dev/null 2>/dev/null || echo "- does_not_run $program"
        done
    done | sort -s -k1,1r | awk '!seen[$0]++'
}

# Anything that another Python has left in the folder would stay there unused, or be used wrongly.
clear_unless_made_by() {
    [ -e "$venv" ] || return 0
    [ "$("$venv/bin/python" -I -c 'import sys; print(sys._base_executable)' 2>/dev/null)" = "$1" ] ||
        rm -rf "$venv"
}

# Compiled now, in parallel, and not at each start of a process that may not write into the folder.
install_with_uv() {
    "$1" pip install --quiet --compile-bytecode --python "$venv/bin/python" -r "$requirements" >>"$log" 2>&1
}

# Runs pip for the environment: its own, or that of the Python it is made with.
pip_install() {
    if [ -n "$has_ensurepip" ]; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    else
        "$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check "$@"
    fi >>"$log" 2>&1
}

# Exit codes: 0 done; 1 the next Python may do; 2 no Python will do, as nothing can be downloaded.
make_with() {
    version=$1 python=$2
    clear_unless_made_by "$python"
    if command -v uv >/dev/null 2>&1; then
        echo "Installing into $venv with Python $version and uv"
        uv venv --quiet --allow-existing --python "$python" "$venv" >>"$log" 2>&1 &&
            install_with_uv uv && return 0
    fi
    has_ensurepip=$("$python" -I -c 'import venv; from ensurepip import bootstrap; print(1)' 2>/dev/null)
    if [ -n "$has_ensurepip" ]; then
        "$python" -m venv "$venv" >>"$log" 2>&1 || return 1
    elif "$python" -m pip --python "$python" --version >/dev/null 2>&1; then
        "$python" -m venv --without-pip "$venv" >>"$log" 2>&1 || return 1
    else
        minor=${version%.*}
        echo "$python (Python $version) has neither venv nor pip:" \
            "\`sudo apt-get install python$minor-venv\` on Debian and Ubuntu, or install uv." >>"$log"
        return 1
    fi
    echo "Installing into $venv with Python $version; this takes a minute"
    if pip_install "$uv_version"; then
        install_with_uv "$venv/bin/uv" && return 0
        return 1
    fi
    # uv has no build for this machine, or there is no index.
    pip_install -r "$requirements" && return 0
    return 2
}

pythons=$(find_pythons)
usable=$(echo "$pythons" | grep -v '^-' | grep .)
if [ -z "$usable" ]; then
    # uv knows of Pythons that are not on PATH, and fetches one otherwise.
    if command -v uv >/dev/null 2>&1 && clear_unless_made_by "" &&
        uv venv --quiet --python ">=$least,<3.15" "$venv" >>"$log" 2>&1 &&
        echo "Installing into $venv with a Python of uv" && install_with_uv uv; then
        exit 0
    fi
    {
        echo "$venv could not be made: amplifierd needs Python $least or newer (CPython)."
        echo "Found on PATH:"
        if [ -n "$pythons" ]; then
            echo "$pythons" | while read -r _ reason path; do
                echo "  $path  $(echo "$reason" | tr _ ' ')"
            done
        else
            echo "  no python3 at all"
        fi
        echo "Install one, for example by \`sudo apt-get install python3 python3-venv\`" \
            "or \`uv python install 3.13\`, and put it on PATH."
    } >&2
    exit 1
fi

while read -r _ version python; do
    make_with "$version" "$python" && exit 0
    result=$?
    [ "$result" = 2 ] && break
    echo "That is not possible with Python $version:"
    tail -n 4 "$log"
    : >"$log"
done <<EOF
$usable
EOF
{
    tail -n 15 "$log"
    echo "$venv could not be made. It needs Python $least or newer and a package index;" \
        "the lines above say what went wrong."
} >&2
exit 1
