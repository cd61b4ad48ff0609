#!/bin/sh
# Makes a CA and certificates for a server, a node and a client with the openssl command alone.
#
#   certs/make.sh DIR [NODE [CLIENT [ROLE [HOST...]]]]
#
# writes DIR/{ca,server,node,client}.{crt,key}; keys are ECDSA P-256 with mode 0600. The node is called n1 and the
# client admin with the role admin unless said otherwise; HOSTs (names or addresses) are added to localhost,
# 127.0.0.1 and ::1 in the server's certificate. What is in DIR already is kept: delete a file to make it again.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '4s/^# *//p' "$0" >&2; exit 2; }
dir=$1
node=${2:-n1}
client=${3:-admin}
role=${4:-admin}
case $# in 1 | 2 | 3 | 4) hosts= ;; *) shift 4; hosts=$* ;; esac
days_ca=3650
days_leaf=90
mkdir -p "$dir"

key() { [ -f "$1" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

if [ ! -f "$dir/ca.crt" ]; then
  key "$dir/ca.key"
  openssl req -x509 -new -key "$dir/ca.key" -sha256 -days "$days_ca" -config "$here/ca.cnf" -out "$dir/ca.crt"
fi

# leaf NAME SUBJECT USAGE [SAN]
leaf() {
  [ ! -f "$dir/$1.crt" ] || return 0
  key "$dir/$1.key"
  sed "s/^extendedKeyUsage = USAGE/extendedKeyUsage = $3/" "$here/leaf.cnf" >"$dir/$1.cnf"
  [ -z "${4:-}" ] || echo "subjectAltName = $4" >>"$dir/$1.cnf"
  openssl req -new -key "$dir/$1.key" -subj "$2" -out "$dir/$1.csr" 2>/dev/null
  openssl x509 -req -in "$dir/$1.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -sha256 -days "$days_leaf" \
    -set_serial "0x4$(openssl rand -hex 15)0" -extfile "$dir/$1.cnf" -extensions leaf -out "$dir/$1.crt" 2>/dev/null
  rm -f "$dir/$1.csr" "$dir/$1.cnf"
}

names=DNS:localhost,IP:127.0.0.1,IP:::1
for host in $hosts; do
  case $host in
    *:*) names=$names,IP:$host ;;
    *[!0-9.]*) names=$names,DNS:$host ;;
    *) names=$names,IP:$host ;;
  esac
done
leaf server "/O=skerry/CN=skerry-cloud" serverAuth "$names"
leaf node "/O=system:nodes/CN=system:node:$node" clientAuth
leaf client "/O=skerry:$role/CN=$client" clientAuth
chmod 644 "$dir"/*.crt
