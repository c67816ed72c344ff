# shellcheck shell=bash
# podman and buildah without an engine, and without touching what the machine has: sourced, it sets their environment.
# Everything they keep is in $CI_TOOLS/containers, so that the base image is built once.

containers=$CI_TOOLS/containers
mkdir -p "$containers/tmp"
cat >"$containers/storage.conf" <<END
[storage]
driver = "vfs"
runroot = "$containers/run"
graphroot = "$containers/graph"
END
# The emulator's registry speaks plain HTTP.
cat >"$containers/registries.conf" <<END
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "127.0.0.1"
insecure = true
END
cat >"$containers/containers.conf" <<END
[containers]
netns = "host"
[engine]
events_logger = "none"
END
export CONTAINERS_STORAGE_CONF=$containers/storage.conf CONTAINERS_REGISTRIES_CONF=$containers/registries.conf \
  CONTAINERS_CONF=$containers/containers.conf STORAGE_DRIVER=vfs \
  BUILDAH_ISOLATION=chroot BUILDAH_LAYERS=true \
  TMPDIR=$containers/tmp
