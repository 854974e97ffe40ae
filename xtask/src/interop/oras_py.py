"""Pushes, attaches, lists, pulls and deletes with the Python package oras. Arguments: a step, and host:port."""

import hashlib
import json
import os
import pathlib
import sys

import oras.client
import oras.oci

KIND = "application/vnd.example.note"
TEXT = b"an artifact\n"
LARGE = hashlib.sha256(b"seed").digest() * 40_000
CHUNK = 100_000


def manifest_of(client, host, reference):
    """The bytes of a manifest, and its descriptor."""
    repository, _, tag = reference.rpartition(":")
    answer = client.do_request(
        f"http://{host}/v2/{repository}/manifests/{tag}",
        "GET",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    answer.raise_for_status()
    digest = "sha256:" + hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["Docker-Content-Digest"] == digest, answer.headers
    return oras.oci.Subject(answer.headers["Content-Type"], digest, len(answer.content))


def push(client, host):
    pathlib.Path("artifact.txt").write_bytes(TEXT)
    pathlib.Path("large.bin").write_bytes(LARGE)
    client.push(target=f"{host}/oras-py/artifact:v1", files=["artifact.txt:text/plain"])
    client.push(
        target=f"{host}/oras-py/artifact:chunks",
        files=["large.bin:application/octet-stream"],
        do_chunked=True,
        chunk_size=CHUNK,
    )
    pathlib.Path("config.json").write_text(json.dumps({"a": "config"}))
    pathlib.Path("note.txt").write_bytes(b"a note\n")
    client.push(
        target=f"{host}/oras-py/artifact:note",
        files=["note.txt:text/plain"],
        manifest_config=f"config.json:{KIND}",
        subject=manifest_of(client, host, "oras-py/artifact:v1"),
    )


def check(client, host):
    tags = sorted(client.get_tags(f"{host}/oras-py/artifact"))
    assert tags == ["chunks", "note", "v1"], tags
    for tag, name, content in (("v1", "artifact.txt", TEXT), ("chunks", "large.bin", LARGE)):
        files = client.pull(target=f"{host}/oras-py/artifact:{tag}", outdir=f"back-{tag}")
        assert [os.path.basename(file) for file in files] == [name], files
        assert pathlib.Path(files[0]).read_bytes() == content, f"{name} differs"
    # The package attaches, but has no call that lists what is attached.
    subject = manifest_of(client, host, "oras-py/artifact:v1")
    note = manifest_of(client, host, "oras-py/artifact:note")
    answer = client.do_request(f"http://{host}/v2/oras-py/artifact/referrers/{subject.digest}", "GET")
    answer.raise_for_status()
    found = [(entry["digest"], entry["artifactType"]) for entry in answer.json()["manifests"]]
    assert found == [(note.digest, KIND)], found


def delete(client, host):
    # The package deletes the manifest that the tag names.
    assert client.delete_tag(f"{host}/oras-py/artifact", "note")
    tags = sorted(client.get_tags(f"{host}/oras-py/artifact"))
    assert tags == ["chunks", "v1"], tags
    assert not client.delete_tag(f"{host}/oras-py/artifact", "note")


STEPS = {"push": push, "check": check, "delete": delete}
STEPS[sys.argv[1]](oras.client.OrasClient(hostname=sys.argv[2], insecure=True), sys.argv[2])
