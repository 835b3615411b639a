#!/usr/bin/env python3
"""Build docker-archive image tarballs (loadable with `ctr images import`) without a registry.

usage: image.py OUT.tar SPEC.json
SPEC: {"tags":[...], "entrypoint":[...], "cmd":[...], "env":[...], "user":"", "workdir":"",
       "layers":[{"tar":"path.tar"} | {"files":[{"src":..,"dst":..,"mode":"0755"} |
                 {"dst":..,"text":..} | {"dst":..,"link":..} | {"dst":..,"dir":true,"mode":"1777"}]}]}
"""
import hashlib, io, json, os, sys, tarfile

out, spec = sys.argv[1], json.load(open(sys.argv[2]))

def layer(l, tmp):
    if "tar" in l:
        return l["tar"]
    p = tmp
    with tarfile.open(p, "w") as t:
        for f in l["files"]:
            ti = tarfile.TarInfo(f["dst"].lstrip("/"))
            ti.mode = int(f.get("mode", "0755"), 8)
            if f.get("dir"):
                ti.type = tarfile.DIRTYPE
                t.addfile(ti)
            elif "link" in f:
                ti.type = tarfile.SYMTYPE
                ti.linkname = f["link"]
                t.addfile(ti)
            elif "text" in f:
                b = f["text"].encode()
                ti.size = len(b)
                ti.mode = int(f.get("mode", "0644"), 8)
                t.addfile(ti, io.BytesIO(b))
            else:
                ti.size = os.path.getsize(f["src"])
                with open(f["src"], "rb") as s:
                    t.addfile(ti, s)
    return p

def sha(p):
    h = hashlib.sha256()
    with open(p, "rb") as f:
        for b in iter(lambda: f.read(1 << 20), b""):
            h.update(b)
    return h.hexdigest()

ls = []
for i, l in enumerate(spec["layers"]):
    p = layer(l, f"{out}.layer{i}")
    ls.append((p, sha(p)))
cfg = {"architecture": "amd64", "os": "linux",
       "config": {"Entrypoint": spec.get("entrypoint"), "Cmd": spec.get("cmd"),
                  "Env": spec.get("env", ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
                  "User": spec.get("user", ""), "WorkingDir": spec.get("workdir", "/"),
                  "ExposedPorts": {p: {} for p in spec.get("ports", [])}},
       "rootfs": {"type": "layers", "diff_ids": ["sha256:" + s for _, s in ls]},
       "history": [{"created_by": "image.py"} for _ in ls]}
cb = json.dumps(cfg).encode()
cn = hashlib.sha256(cb).hexdigest() + ".json"
with tarfile.open(out, "w") as t:
    def add(n, b):
        ti = tarfile.TarInfo(n); ti.size = len(b); t.addfile(ti, io.BytesIO(b))
    done = set()
    for p, s in ls:
        if s not in done:
            done.add(s)
            t.add(p, arcname=s + ".tar")
    add(cn, cb)
    add("manifest.json", json.dumps([{"Config": cn, "RepoTags": spec["tags"],
        "Layers": [s + ".tar" for _, s in ls]}]).encode())
for p, _ in ls:
    if p.startswith(out + ".layer"):
        os.unlink(p)
