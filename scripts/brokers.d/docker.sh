# Containers for scripts/brokers --docker: compose.yaml beside this file. Sourced, not run.
# NOT RUN HERE: it was written on a machine without a Docker engine. Left out: --shift, since compose files can't add.
# shellcheck shell=bash disable=SC2154

docker_compose() { docker compose -p "brokerlab-$(cksum <<<"$dir" | cut -d' ' -f1)" -f "$here/compose.yaml" "$@"; }

# docker_services NAME: one service a node.
docker_services() { if [ "$(nodes "$1")" = 3 ]; then printf '%s-1 %s-2 %s-3' "$1" "$1" "$1"; else printf '%s' "$1"; fi }

docker_begin() {
    local name=$1 node=0 service container list=
    [ "$shift_by" = 0 ] || wrong "--docker has fixed ports; leave out --shift"
    need docker "install Docker, or leave out --docker"
    docker info >/dev/null 2>&1 || wrong "no Docker engine answers; start one, or leave out --docker"
    docker compose version >/dev/null 2>&1 || wrong "Docker's compose plugin is missing; on Debian and Ubuntu: apt-get install docker-compose-plugin"
    # shellcheck disable=SC2046
    docker_compose up -d $(docker_services "$name") >&2 || failed "$name: docker compose could not start it (see above)"
    for service in $(docker_services "$name"); do
        node=$((node + 1))
        container=$(docker_compose ps -q "$service")
        docker unpause "$container" >/dev/null 2>&1 || true
        set_key "$name" "node.$node.container" "$container"
        docker_record "$name" "$node"
        case $name in
        kafka*) set_key "$name" "node.$node.address" "127.0.0.1:$(kafka_port "$name" "$node")" ;;
        rabbitmq*) set_key "$name" "node.$node.address" "127.0.0.1:$(rabbitmq_port "$name" "$node" amqp)" ;;
        esac
        list=$list${list:+,}$(get "$name" "node.$node.address")
    done
    set_key "$name" name "$name"
    case $name in kafka*) set_key "$name" url "kafka://$list" ;; rabbitmq*) set_key "$name" url "amqp://$list" ;; esac
    set_key "$name" nodes "$(nodes "$name")"
    set_key "$name" by docker
}

docker_record() {
    local pid
    pid=$(docker inspect -f '{{.State.Pid}}' "$(get "$1" "node.$2.container")")
    set_key "$1" "node.$2.pid" "$pid"
    set_key "$1" "node.$2.begun" "$(begun "$pid")"
}

# docker_condition NAME node.N
docker_condition() {
    case $(docker inspect -f '{{.State.Status}}' "$(get "$1" "$2.container")" 2>/dev/null) in
    running) echo running ;;
    paused) echo paused ;;
    *) echo dead ;;
    esac
}

# docker_act VERB NAME NODE
docker_act() {
    local container
    container=$(get "$2" "node.$3.container")
    case $1 in
    kill) docker kill "$container" >/dev/null ;;
    pause) docker pause "$container" >/dev/null ;;
    resume) docker unpause "$container" >/dev/null ;;
    start) docker start "$container" >/dev/null && docker_record "$2" "$3" ;;
    esac
}

docker_stop() {
    local node
    for node in $(seq "$(nodes "$1")"); do docker unpause "$(get "$1" "node.$node.container")" >/dev/null 2>&1 || true; done
    # shellcheck disable=SC2046
    docker_compose rm -s -f -v $(docker_services "$1") >&2
}

# docker_kafka NAME TOOL ARGUMENT…: a tool of the image of node 1.
docker_kafka() {
    local container tool=$2
    container=$(get "$1" node.1.container)
    shift 2
    docker exec -i "$container" "/opt/kafka/bin/$tool.sh" --bootstrap-server localhost:19092 "$@"
}

docker_kafka_roundtrip() {
    local name=$1 topic=brokerlab-ready
    docker_kafka "$name" kafka-topics --create --if-not-exists --topic $topic --partitions 1 --replication-factor "$(nodes "$name")" || return 1
    echo ready | docker_kafka "$name" kafka-console-producer --topic $topic || return 1
    docker_kafka "$name" kafka-console-consumer --topic $topic --from-beginning --max-messages 1 --timeout-ms 10000 | grep -q ready || return 1
    docker_kafka "$name" kafka-topics --delete --topic $topic
}

docker_version() { docker inspect -f '{{.Config.Image}}' "$(get "$1" node.1.container)" | sed 's/.*://'; }
