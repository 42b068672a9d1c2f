# SPDX-License-Identifier: Apache-2.0
"""Download a source distribution from the package index and unpack what the tables need of it.

    sdist.py PACKAGE VERSION SHA256 FOLDER

pip would build the package to learn its metadata, which needs a compiler for GPUs.
"""

import hashlib
import io
import json
import pathlib
import sys
import tarfile
import urllib.request

INDEX = "https://pypi.org/simple/"


def main():
    package, version, digest, folder = sys.argv[1:]
    request = urllib.request.Request(f"{INDEX}{package}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    name = f"{package}-{version}.tar.gz"
    url = next((f["url"] for f in files if f["filename"] == name), None)
    if url is None:
        sys.exit(f"the package index has no {name}")
    with urllib.request.urlopen(url, timeout=300) as answer:
        archive = answer.read()
    if (got := hashlib.sha256(archive).hexdigest()) != digest:
        sys.exit(f"{name} has the digest {got}, and releases/{version}.sdist names {digest}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as sources:
        wanted = [m for m in sources.getmembers() if m.isfile() and f"{package}-{version}/examples/" in m.name]
        sources.extractall(pathlib.Path(folder), members=wanted, filter="data")


if __name__ == "__main__":
    main()
