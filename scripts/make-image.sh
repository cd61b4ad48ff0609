#!/bin/sh
# Makes a small image from Debian's busybox-static as an OCI image layout, without a registry and without a tool
# beyond tar, gzip and sha256sum. The same input gives the same bytes, so the same digest.
#
#   scripts/make-image.sh DIR [TAG]        then: oci:DIR:TAG
set -eu
dir=${1:?usage: make-image.sh DIR [TAG]}
tag=${2:-latest}
busybox=${BUSYBOX:-$(command -v busybox)} || { echo "busybox is missing: apt-get install busybox-static" >&2; exit 1; }
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) echo "no name for the architecture $(uname -m) is known here" >&2; exit 1 ;;
esac
# A dynamically linked busybox would find no libc in the image.
if ldd "$busybox" >/dev/null 2>&1; then echo "$busybox is not static: apt-get install busybox-static" >&2; exit 1; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022
mkdir -p "$root/bin" "$root/etc" "$root/root" "$root/tmp" "$root/var/run" "$root/www" "$root/home/app" \
  "$root/proc" "$root/sys" "$root/dev"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
for applet in $("$busybox" --list); do
  [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' \
  >"$root/etc/passwd"
printf 'root:x:0:\napp:x:1000:\nwww:x:33:app\nnogroup:x:65534:\n' >"$root/etc/group"
echo 'hello from skerry' >"$root/www/index.html"

blobs=$work/layout/blobs/sha256
mkdir -p "$blobs"
# Moves a file to its place by digest; prints "digest size".
blob() {
  sum=$(sha256sum "$1" | cut -d' ' -f1)
  size=$(wc -c <"$1" | tr -d ' ')
  mv "$1" "$blobs/$sum"
  echo "$sum $size"
}

tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -C "$root" -cf "$work/layer.tar" .
diff=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
gzip -n -6 -c "$work/layer.tar" >"$work/layer.gz"
set -- $(blob "$work/layer.gz")
layer=$1 layer_size=$2

cat >"$work/config" <<END
{"architecture":"$arch","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/sh"],"WorkingDir":"/","ExposedPorts":{"8080/tcp":{}},"StopSignal":"SIGTERM"},"rootfs":{"type":"layers","diff_ids":["sha256:$diff"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"skerry make-image.sh"}]}
END
set -- $(blob "$work/config")
config=$1 config_size=$2

cat >"$work/manifest" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
END
set -- $(blob "$work/manifest")
manifest=$1 manifest_size=$2

echo '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
cat >"$work/layout/index.json" <<END
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,"annotations":{"org.opencontainers.image.ref.name":"$tag"}}]}
END
mkdir -p "$(dirname "$dir")"
new=$dir.new.$$
mv "$work/layout" "$new"
rm -rf "$dir"
mv "$new" "$dir"
echo "sha256:$manifest"
