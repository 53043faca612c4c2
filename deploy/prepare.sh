#!/bin/sh
# Makes what the services share, once: a private certificate authority, the certificate and password of Redis, and the
# folders each service writes. Running it again changes nothing; remove the volumes of both for new ones.
#
#   SERVER    folder for what Redis alone may read: its key and configuration
#   SECRETS   folder for what its clients need: the authority's certificate and the password
#   DIRECTORY folder of Redis' append-only file
#   FOLDERS   folders the services write, separated by spaces
#   OWNER     uid:gid of the services (empty: whoever runs this)
#   REDIS     name under which Redis is reached
#   PORT      port of Redis
set -eu
umask 077
mkdir -p "$SECRETS" "$SERVER"

if [ ! -e "$SERVER/redis.conf" ]; then
    work=$(mktemp -d "$SERVER/.new.XXXXXX")
    openssl rand -hex 32 > "$work/redis-password"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=linewatch CA" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout "$work/ca.key" -out "$work/ca.crt" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$REDIS" \
        -keyout "$work/redis.key" -out "$work/redis.csr" 2>/dev/null
    printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' "$REDIS" > "$work/redis.ext"
    openssl x509 -req -in "$work/redis.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -CAcreateserial -days 3650 \
        -extfile "$work/redis.ext" -out "$work/redis.crt" 2>/dev/null
    {
        printf 'port 0\ntls-port %s\ntls-auth-clients no\n' "$PORT"
        printf 'tls-cert-file %s/redis.crt\ntls-key-file %s/redis.key\ntls-ca-cert-file %s/ca.crt\n' \
            "$SERVER" "$SERVER" "$SECRETS"
        printf 'requirepass %s\n' "$(cat "$work/redis-password")"
        printf 'dir %s\nappendonly yes\nappendfsync always\nsave ""\nmaxmemory-policy noeviction\n' "$DIRECTORY"
    } > "$work/redis.conf"
    mv "$work/redis-password" "$work/ca.crt" "$SECRETS"
    mv "$work/redis.key" "$work/redis.crt" "$SERVER"
    mv "$work/redis.conf" "$SERVER"  # last: its presence says that the others are complete
    # With it goes the authority's key: it has signed all it ever will, and nobody can sign more.
    rm -r "$work"
fi

# shellcheck disable=SC2086 # a list
mkdir -p $FOLDERS "$DIRECTORY"
# shellcheck disable=SC2086 # a list
chmod 700 $FOLDERS "$DIRECTORY"
if [ -n "${OWNER:-}" ]; then
    # shellcheck disable=SC2086 # a list
    chown "$OWNER" $FOLDERS "$DIRECTORY"
    chown -R "$OWNER" "$SECRETS" "$SERVER"
fi
