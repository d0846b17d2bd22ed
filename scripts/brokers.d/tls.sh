# Certificates of the listeners with TLS, for scripts/brokers: an authority for each server and one certificate for its nodes.
# Sourced, not run. Left out: certificates of clients, and passwords on keys: all of it is for loopback and lives as long as the server.
# shellcheck shell=bash disable=SC2154

# tls_prepare NAME: makes ca.pem, server.pem and server.key under DIR/NAME/tls, and server.both, which is what Kafka reads.
tls_prepare() {
    local at=$dir/$1/tls
    need openssl "on Debian and Ubuntu: apt-get install openssl; or leave out --tls"
    rm -rf "${at:?}"
    mkdir -p "$at"
    if ! (
        umask 077
        cd "$at"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -keyout ca.key -out ca.pem -subj "/CN=scripts-brokers $1"
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj "/CN=localhost"
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' >extensions
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 365 -extfile extensions -out server.pem
        cat server.key server.pem >server.both
    ) >"$at/log" 2>&1; then
        cat "$at/log" >&2
        failed "$1: openssl could not make its certificates"
    fi
}

# tls_record NAME SCHEME NODE-PORTS…: where the listeners are.
tls_record() {
    local name=$1 scheme=$2 node=0 list='' port
    shift 2
    for port in "$@"; do
        node=$((node + 1))
        set_key "$name" "node.$node.tls" "127.0.0.1:$port"
        list=$list${list:+,}127.0.0.1:$port
    done
    set_key "$name" tls.url "$scheme://$list?tls.ca=$dir/$name/tls/ca.pem"
}
