# RabbitMQ for scripts/brokers: one node or a cluster of three from the system's package, beside its service and apart from it.
# Sourced, not run. Left out: users other than guest, the stream protocol.
# shellcheck shell=bash disable=SC2154

# The package's own /usr/sbin/rabbitmq-server insists on root or the user rabbitmq; the script behind it does not.
rabbitmq_program() {
    local at
    for at in "${BROKERLAB_RABBITMQ_SERVER:-}" /usr/lib/rabbitmq/bin/rabbitmq-server "$(command -v rabbitmq-server || true)"; do
        if [ -n "$at" ] && [ -x "$at" ]; then
            printf '%s' "$at"
            return
        fi
    done
    wrong "\`rabbitmq-server\` is missing; on Debian and Ubuntu: apt-get install rabbitmq-server (elsewhere set BROKERLAB_RABBITMQ_SERVER to its path)"
}

rabbitmq_needs() { rabbitmq_program >/dev/null; need epmd "it belongs to Erlang; on Debian and Ubuntu: apt-get install rabbitmq-server"; }

# rabbitmq_port NAME NODE KIND: amqp, tls, management, distribution or epmd.
rabbitmq_port() {
    case $1-$3 in
    rabbitmq-amqp) echo $((25672 + shift_by)) ;;
    rabbitmq-tls) echo $((25675 + shift_by)) ;;
    rabbitmq-management) echo $((25673 + shift_by)) ;;
    rabbitmq-distribution) echo $((25674 + shift_by)) ;;
    rabbitmq-epmd) echo $((24369 + shift_by)) ;;
    rabbitmq3-amqp) echo $((36670 + $2 + shift_by)) ;;
    rabbitmq3-tls) echo $((36690 + $2 + shift_by)) ;;
    rabbitmq3-management) echo $((36770 + $2 + shift_by)) ;;
    rabbitmq3-distribution) echo $((36680 + $2 + shift_by)) ;;
    rabbitmq3-epmd) echo $((34370 + shift_by)) ;;
    esac
}

rabbitmq_ports() {
    local node kind
    rabbitmq_port "$1" 1 epmd
    for node in $(seq "$(nodes "$1")"); do
        for kind in amqp ${tls:+tls} management distribution; do rabbitmq_port "$1" "$node" "$kind"; done
    done
}

# Node names differ by port, so that a second set can live beside the first.
rabbitmq_node() { printf 'brokerlab%s@localhost' "$(rabbitmq_port "$1" "$2" amqp)"; }

rabbitmq_conf() {
    local name=$1 node=$2 peer memory=2GB
    if [ "$(nodes "$name")" = 3 ]; then memory=1GB; fi
    cat <<TEXT
listeners.tcp.default = 127.0.0.1:$(rabbitmq_port "$name" "$node" amqp)
management.tcp.ip = 127.0.0.1
management.tcp.port = $(rabbitmq_port "$name" "$node" management)
disk_free_limit.absolute = 200MB
vm_memory_high_watermark.absolute = $memory
log.console = true
log.console.level = warning
log.file = false
TEXT
    if [ -n "$tls" ]; then
        cat <<TEXT
listeners.ssl.default = 127.0.0.1:$(rabbitmq_port "$name" "$node" tls)
ssl_options.cacertfile = $dir/$name/tls/ca.pem
ssl_options.certfile = $dir/$name/tls/server.pem
ssl_options.keyfile = $dir/$name/tls/server.key
TEXT
    fi
    if [ "$(nodes "$name")" = 3 ]; then
        echo "cluster_formation.peer_discovery_backend = classic_config"
        for peer in 1 2 3; do echo "cluster_formation.classic_config.nodes.$peer = $(rabbitmq_node "$name" "$peer")"; done
    fi
}

rabbitmq_prepare() {
    local name=$1 node list='' program
    program=$(rabbitmq_program)
    rm -rf "${dir:?}/$name/home"
    mkdir -p "$dir/$name/home"
    # All nodes of a cluster show each other the same secret, and find it in their home.
    (umask 077 && head -c 32 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' >"$dir/$name/home/.erlang.cookie")
    chmod 400 "$dir/$name/home/.erlang.cookie"
    for node in $(seq "$(nodes "$name")"); do
        local home=$dir/$name/$node
        rm -rf "${home:?}"
        mkdir -p "$home/data"
        rabbitmq_conf "$name" "$node" >"$home/rabbitmq.conf"
        echo '[rabbitmq_management].' >"$home/enabled_plugins"
        # RUNNING_UNDER_SYSTEMD: the script becomes the Erlang machine, in place of waiting for it as a parent. So the pid is the node's.
        cat >"$home/start" <<TEXT
#!/bin/sh
export HOME="$dir/$name/home" RABBITMQ_NODENAME=$(rabbitmq_node "$name" "$node") RABBITMQ_MNESIA_BASE="$home/data" \\
    RABBITMQ_LOG_BASE="$home" RABBITMQ_LOGS=- RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" RABBITMQ_CONF_ENV_FILE=/dev/null \\
    RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins" RABBITMQ_DIST_PORT=$(rabbitmq_port "$name" "$node" distribution) \\
    ERL_EPMD_PORT=$(rabbitmq_port "$name" 1 epmd) ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP=/dev/null LANG=C.UTF-8 \\
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" RUNNING_UNDER_SYSTEMD=true
unset NOTIFY_SOCKET
cd "$home" && exec "$program"
TEXT
        chmod +x "$home/start"
        list=$list${list:+,}127.0.0.1:$(rabbitmq_port "$name" "$node" amqp)
    done
    set_key "$name" name "$name"
    set_key "$name" url "amqp://$list"
    set_key "$name" nodes "$(nodes "$name")"
    for node in $(seq "$(nodes "$name")"); do
        set_key "$name" "node.$node.address" "127.0.0.1:$(rabbitmq_port "$name" "$node" amqp)"
        set_key "$name" "node.$node.start" "$dir/$name/$node/start"
    done
    # shellcheck disable=SC2046
    [ -z "$tls" ] || tls_record "$name" amqps $(for node in $(seq "$(nodes "$name")"); do rabbitmq_port "$name" "$node" tls; done)
    set_key "$name" by process
}

# Erlang's name service outlives the node that starts it, so it is started here, where its pid is known.
rabbitmq_before() {
    if alive "$1" epmd; then return; fi
    spawn "$dir/$1/epmd.log" epmd -port "$(rabbitmq_port "$1" 1 epmd)" -address 127.0.0.1
    record "$1" epmd "$spawned"
    until answers "$(rabbitmq_port "$1" 1 epmd)"; do
        alive "$1" epmd || failed "$1: epmd ended; see $dir/$1/epmd.log"
        sleep 0.05
    done
}

# rabbitmq_http NAME METHOD PATH [BODY]: the answer of its management, status 1 unless 2xx. guest:guest is the password of every new node.
rabbitmq_http() {
    local body=${4:-} answer
    exec 8<>"/dev/tcp/127.0.0.1/$(rabbitmq_port "$1" 1 management)" || return 1
    printf '%s /api/%s HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n%s' \
        "$2" "$3" "${#body}" "$body" >&8
    answer=$(timeout 20 cat <&8) || true
    exec 8>&-
    printf '%s\n' "$answer"
    case $answer in HTTP/1.?\ 2*) ;; *) return 1 ;; esac
}

# One message through a quorum queue of its own with a member on every node; the queue is deleted again.
rabbitmq_roundtrip() {
    local name=$1 all queue=queues/%2F/brokerlab-ready
    all=$(nodes "$name")
    [ "$(rabbitmq_http "$name" GET nodes?columns=running | grep -o '"running":true' | wc -l)" -eq "$all" ] || { echo "not all nodes run yet"; return 1; }
    rabbitmq_http "$name" PUT $queue "{\"durable\":true,\"arguments\":{\"x-queue-type\":\"quorum\",\"x-quorum-initial-group-size\":$all}}" || return 1
    rabbitmq_http "$name" POST exchanges/%2F/amq.default/publish \
        '{"properties":{"delivery_mode":2},"routing_key":"brokerlab-ready","payload":"ready","payload_encoding":"string"}' | grep '"routed":true' || return 1
    rabbitmq_http "$name" POST $queue/get '{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}' | grep '"payload":"ready"' || return 1
    rabbitmq_http "$name" DELETE $queue
}

rabbitmq_version() { rabbitmq_http "$1" GET overview?columns=rabbitmq_version | sed -n 's/.*"rabbitmq_version":"\([^"]*\)".*/\1/p'; }
