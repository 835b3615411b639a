#!/usr/bin/env python3
"""Compares what a role allows with what its holder did.

usage: rights.py AUDIT-LOG ROLES.json < served resources, as kubectl api-resources -o name prints them

Fails when something was refused, or when a right to a resource that the server serves was never used. A right to a
resource that is not served (CRDs that the cluster has not got) cannot be used, and is listed.
"""
import json, sys


def main():
    used, refused = set(), set()
    for line in open(sys.argv[1]):
        event = json.loads(line)
        ref = event.get("objectRef")
        if not ref or "resource" not in ref:
            continue
        resource = ref["resource"] + ("/" + ref["subresource"] if ref.get("subresource") else "")
        right = (ref.get("apiGroup", ""), resource, event["verb"])
        # Admission says 403 too, of a namespace that is being terminated for one.
        decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
        (refused if decision == "forbid" else used).add(right)
    served = {line.strip() for line in sys.stdin if line.strip()}
    decoder, text, unused, unserved = json.JSONDecoder(), open(sys.argv[2]).read(), [], set()
    while text.strip():
        role, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    name = resource.split("/")[0] + ("." + group if group else "")
                    if name not in served:
                        unserved.add(name)
                        continue
                    unused += [(group, resource, verb) for verb in rule["verbs"] if (group, resource, verb) not in used]
    show = lambda right: f"{right[2]} {right[1]}" + (f".{right[0]}" if right[0] else "")
    print(f"{len(used)} rights used, {len(refused)} refused, {len(unused)} never used")
    for name in sorted(unserved):
        print("not served here:", name)
    for right in sorted(refused):
        print("REFUSED:", show(right))
    for right in sorted(unused):
        print("NEVER USED:", show(right))
    sys.exit(1 if refused or unused or not used else 0)


main()
