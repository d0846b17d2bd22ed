# What scripts/brokers knows of its servers: the state file (its keys are listed in scripts/brokers), processes by pid and start.
# Sourced, not run. Leaves out what a server needs to start.
# shellcheck shell=bash disable=SC2154

# get NAME KEY: the value, or nothing.
get() {
    [ -e "$dir/$1/state" ] || return 0
    awk -F= -v key="$2" '$1 == key { print substr($0, length(key) + 2); exit }' "$dir/$1/state"
}

# set_key NAME KEY VALUE
set_key() {
    local file=$dir/$1/state
    { if [ -e "$file" ]; then awk -F= -v key="$2" '$1 != key' "$file"; fi; printf '%s=%s\n' "$2" "$3"; } >"$file.new"
    mv "$file.new" "$file"
}

# begun PID: when the process started, or nothing if there is none. A process that ended and waits to be reaped is none.
begun() {
    local stat
    if [ -r /proc/self/stat ]; then
        { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
        # The command in brackets may hold blanks: count fields behind it. State is then the first, the start the 20th.
        stat=${stat##*) }
        # shellcheck disable=SC2086
        set -- $stat
        case $1 in Z | X) return 0 ;; esac
        shift 19
        printf '%s' "$1"
    else
        case $(ps -o stat= -p "$1" 2>/dev/null) in '' | Z*) return 0 ;; esac
        ps -o lstart= -p "$1" | tr -s ' '
    fi
}

# record NAME WHO PID: WHO is node.N or epmd.
record() {
    set_key "$1" "$2.pid" "$3"
    set_key "$1" "$2.begun" "$(begun "$3")"
}

# alive NAME WHO: the very process that was recorded is there.
alive() {
    local pid
    pid=$(get "$1" "$2.pid")
    [ -n "$pid" ] && [ -n "$(get "$1" "$2.begun")" ] && [ "$(begun "$pid")" = "$(get "$1" "$2.begun")" ]
}

# condition NAME WHO: running, paused or dead.
condition() {
    if [ "$(get "$1" by)" = docker ]; then docker_condition "$@"; return; fi
    if ! alive "$1" "$2"; then echo dead; return; fi
    case $(ps -o stat= -p "$(get "$1" "$2.pid")") in T*) echo paused ;; *) echo running ;; esac
}

# signal NAME WHO SIGNAL: sends it if the process is still the recorded one.
signal() { if alive "$1" "$2"; then kill "-$3" "$(get "$1" "$2.pid")" 2>/dev/null || true; fi; }

# gone NAME WHO SECONDS: waits for its end; status 1 if it is still there.
gone() {
    local limit=$((SECONDS + $3))
    while alive "$1" "$2"; do
        [ $SECONDS -lt $limit ] || return 1
        sleep 0.05
    done
}

java_needs() {
    need java "on Debian and Ubuntu: apt-get install openjdk-17-jre-headless (Java 17 or later)"
    local major
    major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
    [ "${major:-0}" -ge 17 ] || wrong "Java 17 or later is needed, \`java -version\` says ${major:-nothing}; on Debian and Ubuntu: apt-get install openjdk-17-jre-headless"
}

# jars KIND: the folder that holds what KIND.xml asks for; fetched once, into a cache, all or nothing.
jars() {
    local pom=$here/$1.xml folder
    folder=${BROKERLAB_BROKERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/brokerlab-brokers}/$1-$(cksum <"$pom" | cut -d' ' -f1)
    if [ ! -d "$folder" ]; then
        need mvn "it fetches the jars from Maven Central; on Debian and Ubuntu: apt-get install maven"
        say "fetching the jars of $1 from Maven Central, once"
        rm -rf "$folder.part"
        mkdir -p "$folder.part"
        mvn -q -B -Dstyle.color=never -f "$pom" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$folder.part" >&2 || failed "maven could not fetch the jars of $1 (see above); is Maven Central or your mirror reachable?"
        mv "$folder.part" "$folder"
    fi
    printf '%s' "$folder"
}
