#!/usr/bin/env python3
"""Makes the lists of dependencies say what is in a binary, and no more.

    sbom.py list BINARY PACKAGE [CARGO-TREE-OPTION...]
    sbom.py bill BINARY BOM OUT PACKAGE [CARGO-TREE-OPTION...]
    sbom.py notices OUT PACKAGE...

cargo-auditable (in the binary) and cargo-cyclonedx (in BOM) both ask
`cargo metadata`, which mixes the features of all packages of a workspace: for
the binary without network code they name crates that are not in it. What is
built is what `cargo tree` says of PACKAGE. So `list` writes the list in the
binary's section `.dep-v0` again with that alone, and `bill` the BOM to OUT. A
crate of the binary that the list lacks is an error. `notices` writes the terms
of all crates in the programs of PACKAGEs, as their authors ask of those who
hand them on.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zlib

SECTION = ".dep-v0"

# Names of files that hold the terms of a crate.
TERMS = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


def tree(package, options, edges):
    command = ["cargo", "tree", "--locked", "--package", package, "--edges", edges]
    command += ["--prefix", "none", "--format", "{p}", "--no-dedupe", *options]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    pairs = (line.split() for line in lines if line)
    return {(pair[0], pair[1].removeprefix("v")) for pair in pairs}


def named(entry):
    return entry["name"], entry["version"]


def stored(data):
    """`data` in zlib's form, not compressed: the same bytes with any zlib."""
    blocks = [data[at : at + 65535] for at in range(0, len(data), 65535)] or [b""]
    out = b"\x78\x01"
    for block in blocks:
        last = b"\x01" if block is blocks[-1] else b"\x00"
        size = len(block)
        out += last + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + block
    return out + zlib.adler32(data).to_bytes(4, "big")


def listed(binary):
    with tempfile.NamedTemporaryFile() as section:
        subprocess.run(["objcopy", "--dump-section", f"{SECTION}={section.name}", binary, os.devnull], check=True)
        return json.loads(zlib.decompress(section.read()))


def in_binary(whole, built, running):
    """The list of cargo-auditable, with the crates in `built` alone."""
    kept, places = [], {}
    for index, package in enumerate(whole["packages"]):
        if named(package) in built:
            places[index] = len(kept)
            kept.append(dict(package))
    for package in kept:
        package["dependencies"] = sorted(places[at] for at in package.get("dependencies", []) if at in places)
        package.pop("kind", None)
        if named(package) not in running:
            package["kind"] = "build"
    return {**whole, "packages": kept}


def write(binary, packages):
    data = json.dumps(packages, separators=(",", ":"), sort_keys=True).encode()
    with tempfile.NamedTemporaryFile() as section:
        section.write(stored(data))
        section.flush()
        subprocess.run(["objcopy", "--update-section", f"{SECTION}={section.name}", binary], check=True)


def bill(bom, built, running, binary):
    """The bill of materials, with the crates in `built` alone."""
    kept = [component for component in bom["components"] if named(component) in built]
    for component in kept:
        component["scope"] = "required" if named(component) in running else "excluded"
    main = bom["metadata"]["component"]
    with open(binary, "rb") as file:
        main["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(file.read()).hexdigest()}]
    refs = {component["bom-ref"] for component in kept} | {main["bom-ref"]}
    edges = [edge for edge in bom["dependencies"] if edge["ref"] in refs]
    for edge in edges:
        edge["dependsOn"] = [ref for ref in edge.get("dependsOn", []) if ref in refs]
    bom = {**bom, "components": kept, "dependencies": edges}
    text = json.dumps(bom, indent=2, ensure_ascii=False) + "\n"
    # Where the sources lay is nobody's business, and other bytes elsewhere.
    return text.replace(f"file://{os.getcwd()}", "file:///runpack")


def complete(built, entries, where):
    missing = built - {named(entry) for entry in entries}
    if missing:
        sys.exit(f"error: {where} lacks {sorted(missing)}")


def notices(packages):
    """The licences of all crates in the programs of `packages`; a text that many share stands once."""
    inside = set().union(*(tree(package, [], "normal,no-proc-macro") for package in packages))
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["packages"]
    ours = {package["id"] for package in found if package["source"] is None}
    lines, texts = [], {}
    for package in sorted(found, key=named):
        if named(package) not in inside or package["id"] in ours:
            continue
        name = f"{package['name']} {package['version']}"
        root = pathlib.Path(package["manifest_path"]).parent
        files = [file for file in sorted(root.iterdir()) if file.is_file() and TERMS.match(file.name)]
        if not files and not package["license"]:
            sys.exit(f"error: {name} says nothing of its licence")
        told = package["license"] or "see its text"
        authors = ", ".join(re.sub(r"\s*<[^>]*>", "", author) for author in package["authors"])
        lines.append(f"{name}: {told}" + ("" if files else f" (it brings no text; by {authors or 'its authors'})"))
        for file in files:
            text = file.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").strip()
            texts.setdefault(text, []).append(name)
    parts = ["The programs hold these crates of other authors, under these licences:\n", "\n".join(lines)]
    for text, names in sorted(texts.items(), key=lambda item: item[1]):
        parts.append(f"\n{'=' * 78}\n{', '.join(sorted(set(names)))}\n{'=' * 78}\n\n{text}")
    return "\n".join(parts) + "\n", len(lines), len(texts)


def main(what, place, *rest):
    if what == "notices":
        text, crates, texts = notices(rest)
        pathlib.Path(place).write_text(text, encoding="utf-8")
        print(f"{os.path.basename(place)}: {crates} crates, {texts} texts")
        return
    binary = place
    source, out, rest = (*rest[:2], rest[2:]) if what == "bill" else ("", "", rest)
    built = tree(rest[0], rest[1:], "normal,build")
    running = tree(rest[0], rest[1:], "normal,no-proc-macro")
    if what == "list":
        packages = in_binary(listed(binary), built, running)
        complete(built, packages["packages"], f"the list in {binary}")
        write(binary, packages)
        print(f"{os.path.basename(binary)}: {len(built)} crates, {len(running)} of them in the program")
        return
    with open(source, encoding="utf-8") as file:
        bom = json.load(file)
    roots = [entry for entry in listed(binary)["packages"] if entry.get("root")]
    complete(built, bom["components"] + roots, source)
    with open(out, "w", encoding="utf-8") as file:
        file.write(bill(bom, built, running, binary))


main(*sys.argv[1:])
