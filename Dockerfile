# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
#
#   docker build -t apt-depot .
#   docker run -d -p 3142:3142 -v apt-depot:/var/cache/apt-depot apt-depot
#
# Options follow the image's name (-o cache_max=500G), a configuration file is mounted and named
# with -c.  BASE may be any Debian 12 or Ubuntu 22.04 and later.
ARG BASE=debian:12-slim

FROM ${BASE} AS build
ARG VERSION
WORKDIR /src
# First what changes rarely: the packages keep their layer while the sources change.
COPY tests/support/setup tests/support/setup
RUN tests/support/setup image && rm -rf /var/lib/apt/lists/*
COPY . .
RUN make -j"$(nproc)" ${VERSION:+VERSION="$VERSION"} all build/check && make check && \
	strip --strip-debug build/apt-depot
# The libraries' packages have other names in other releases: take those this binary loads.
RUN ldd build/apt-depot | sed -n 's|.* => /.*/\([^ ]*\) .*|\1|p' | \
	xargs -I{} dpkg-query -S '*/{}' | sed 's/:.*//' | sort -u >build/runtime-packages

FROM ${BASE}
COPY --from=build /src/build/runtime-packages /tmp/
RUN apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		ca-certificates gpgv passwd $(cat /tmp/runtime-packages) && \
	rm -rf /var/lib/apt/lists/* /tmp/runtime-packages && \
	groupadd --system --gid 3142 apt-depot && \
	useradd --system --uid 3142 --gid 3142 --home-dir /var/cache/apt-depot --no-create-home \
		--shell /usr/sbin/nologin apt-depot && \
	install -d -o apt-depot -g apt-depot -m 750 /var/cache/apt-depot
COPY --from=build /src/build/apt-depot /usr/sbin/apt-depot
COPY --from=build /src/LICENSE /usr/share/doc/apt-depot/copyright
COPY --from=build /src/conf/apt-depot.conf /usr/share/doc/apt-depot/
USER apt-depot
# Makes the volume the built-in default of cache_dir.
ENV XDG_CACHE_HOME=/var/cache
EXPOSE 3142
VOLUME /var/cache/apt-depot
# Without curl or wget in the image.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD bash -c '\
	exec 3<>/dev/tcp/127.0.0.1/3142 && \
	printf "GET /-/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" >&3 && \
	read -r _ status _ <&3 && [ "$status" = 200 ]'
ENTRYPOINT ["/usr/sbin/apt-depot"]
