#!/usr/bin/env python3
"""What upstream's specs did.

usage: summary.py RESULTS [--must-pass FILE]   a line per spec that ran, from the junit reports; fails when a spec of FILE
                                               failed, was skipped, or is not among them
       summary.py --focus FILE                 a regular expression that selects the specs of FILE and no others
"""
import glob, re, sys
import xml.etree.ElementTree as ET
from collections import Counter


def names(path):
    return [line.rstrip("\n") for line in open(path) if line.strip() and not line.startswith("#")]


def message(case, tags, most):
    found = next((found for found in map(case.find, tags) if found is not None), None)
    text = "" if found is None else found.get("message") or found.text or ""
    return " ".join(text.split())[:most]


def rows(results):
    for report in glob.glob(results + "/junit*.xml"):
        for case in ET.parse(report).getroot().iter("testcase"):
            status, name = case.get("status"), case.get("name")
            why = ""
            if status == "skipped":
                why = message(case, ["skipped"], 140)
                if why in ("", "skipped"):      # left out by focus and skip
                    continue
            elif status != "passed":
                why = message(case, ["failure", "error"], 200)
            elif not name.startswith("[It]"):
                continue
            yield status, float(case.get("time")), name.removeprefix("[It] "), why


def main():
    if sys.argv[1] == "--focus":
        print("|".join(re.escape(name).replace("/", "\\/") for name in names(sys.argv[2])))
        return
    ran = sorted(rows(sys.argv[1]), key=lambda row: (row[0], row[2]))
    for status, seconds, name, why in ran:
        print(f"{status:7} {seconds:7.1f}s {name}" + (f"   <- {why}" if why else ""))
    counts = Counter(row[0] for row in ran)
    print("total:", ", ".join(f"{n} {status}" for status, n in counts.items()) or "no spec ran",
          f"in {sum(row[1] for row in ran):.0f} s of specs")
    missing = []
    if "--must-pass" in sys.argv:
        passed = {row[2] for row in ran if row[0] == "passed"}
        missing = [name for name in names(sys.argv[sys.argv.index("--must-pass") + 1]) if name not in passed]
        for name in missing:
            print("MUST PASS, and did not:", name)
    if not ran or missing:
        sys.exit(1)


main()
