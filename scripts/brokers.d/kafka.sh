# Apache Kafka for scripts/brokers: one node or three, KRaft, from its jars. Sourced, not run.
# Every node is broker and controller. Left out: SASL, tiered storage, Connect and Streams.
# shellcheck shell=bash disable=SC2154

kafka_needs() { java_needs; }

# kafka_port NAME NODE: where clients reach it; the controller listens one above.
kafka_port() {
    case $1 in
    kafka) echo $((29092 + shift_by)) ;;
    kafka3) echo $((39090 + 2 * $2 + shift_by)) ;;
    esac
}

# kafka_tls_port NAME NODE: where they reach it with TLS.
kafka_tls_port() { echo $(($(kafka_port "$1" "$2") + 10)); }

kafka_ports() {
    local node port
    for node in $(seq "$(nodes "$1")"); do
        port=$(kafka_port "$1" "$node")
        echo "$port" $((port + 1))
        [ -z "$tls" ] || kafka_tls_port "$1" "$node"
    done
}

# kafka_list NAME ADDEND: its addresses with a comma between; ADDEND 1 for the controllers.
kafka_list() {
    local node list=
    for node in $(seq "$(nodes "$1")"); do list=$list${list:+,}127.0.0.1:$(($(kafka_port "$1" "$node") + $2)); done
    printf '%s' "$list"
}

# A random id as Kafka writes them: 16 bytes in base64. No `-` or `_`, which tools would take for something else.
kafka_id() { head -c 16 /dev/urandom | base64 | tr '+/' 'Kk' | cut -c1-22; }

# kafka_tool JARS CLASS ARGUMENT…
kafka_tool() {
    local libs=$1
    shift
    java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC "-Dlog4j2.configurationFile=$here/kafka-log4j2.properties" -cp "$libs/*" "$@"
}

kafka_properties() {
    local name=$1 node=$2 port secured='' replicas=1 isr=1
    [ -z "$tls" ] || secured=,SSL://127.0.0.1:$(kafka_tls_port "$name" "$node")
    port=$(kafka_port "$name" "$node")
    if [ "$(nodes "$name")" = 3 ]; then replicas=3 isr=2; fi
    cat <<TEXT
process.roles=broker,controller
node.id=$node
controller.quorum.bootstrap.servers=$(kafka_list "$name" 1)
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))$secured
advertised.listeners=PLAINTEXT://127.0.0.1:$port$secured
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/$name/$node/data
num.network.threads=2
num.io.threads=4
num.partitions=1
auto.create.topics.enable=false
default.replication.factor=$replicas
min.insync.replicas=$isr
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$isr
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$isr
group.initial.rebalance.delay.ms=0
log.segment.bytes=134217728
log.segment.delete.delay.ms=1000
log.retention.bytes=8589934592
log.retention.check.interval.ms=10000
log.cleaner.dedupe.buffer.size=16777216
TEXT
    [ -z "$tls" ] || printf 'ssl.keystore.type=PEM\nssl.keystore.location=%s\n' "$dir/$name/tls/server.both"
}

kafka_prepare() {
    local name=$1 libs node id voters='' heap=1g
    libs=$(jars kafka)
    id=$(kafka_id)
    if [ "$(nodes "$name")" = 3 ]; then heap=512m; fi
    for node in $(seq "$(nodes "$name")"); do
        voters=$voters${voters:+,}$node@127.0.0.1:$(($(kafka_port "$name" "$node") + 1)):$(kafka_id)
    done
    for node in $(seq "$(nodes "$name")"); do
        local home=$dir/$name/$node
        rm -rf "${home:?}"
        mkdir -p "$home"
        kafka_properties "$name" "$node" >"$home/server.properties"
        cat >"$home/start" <<TEXT
#!/bin/sh
exec java -Xms${heap/1g/512m} -Xmx$heap -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \\
    -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true "-Dkafka.logs.dir=$home" \\
    "-Dlog4j2.configurationFile=$here/kafka-log4j2.properties" -cp "$libs/*" kafka.Kafka "$home/server.properties"
TEXT
        chmod +x "$home/start"
        kafka_tool "$libs" kafka.tools.StorageTool format -t "$id" -c "$home/server.properties" \
            --initial-controllers "$voters" >"$home/log" 2>&1 || { cat "$home/log" >&2; failed "$name: its storage could not be set up"; }
    done
    set_key "$name" name "$name"
    set_key "$name" url "kafka://$(kafka_list "$name" 0)"
    set_key "$name" nodes "$(nodes "$name")"
    for node in $(seq "$(nodes "$name")"); do
        set_key "$name" "node.$node.address" "127.0.0.1:$(kafka_port "$name" "$node")"
        set_key "$name" "node.$node.start" "$dir/$name/$node/start"
    done
    # shellcheck disable=SC2046
    [ -z "$tls" ] || tls_record "$name" kafka+tls $(for node in $(seq "$(nodes "$name")"); do kafka_tls_port "$name" "$node"; done)
    set_key "$name" by process
}

kafka_before() { :; }

# One message through a topic of its own, which is deleted again: EndToEndLatency sends it with acks=all, reads it and compares.
kafka_roundtrip() {
    local name=$1 libs at topic=brokerlab-ready
    if [ "$(get "$name" by)" = docker ]; then docker_kafka_roundtrip "$name"; return; fi
    libs=$(jars kafka)
    at=$(kafka_list "$name" 0)
    kafka_tool "$libs" org.apache.kafka.tools.TopicCommand --bootstrap-server "$at" --create --if-not-exists --topic $topic \
        --partitions 1 --replication-factor "$(nodes "$name")" || return 1
    kafka_tool "$libs" org.apache.kafka.tools.EndToEndLatency --bootstrap-server "$at" --topic $topic --num-records 1 \
        --producer-acks all --record-size 16 || return 1
    kafka_tool "$libs" org.apache.kafka.tools.TopicCommand --bootstrap-server "$at" --delete --topic $topic
}

# The version of the jar that runs: the only one, for the jars are pinned.
kafka_version() {
    if [ "$(get "$1" by)" = docker ]; then docker_version "$1"; return; fi
    find "$(jars kafka)" -name 'kafka-server-[0-9]*.jar' | sed 's/.*kafka-server-\([0-9.]*\)\.jar/\1/'
}
