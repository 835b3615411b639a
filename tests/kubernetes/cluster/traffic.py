#!/usr/bin/env python3
"""Compares the traffic of two clusters that took turns. traffic.sh runs it; exits with 1 when a target is missed.

usage: traffic.py RESULTS OURS REFERENCE

A line of RESULTS is ROUND CLUSTER FAMILY PATH TEST JSON. A figure is the median of its rounds; a ratio is the median of the
rounds' own ratios, because the machine's speed drifts: with the lowest and the highest. What "wire" measured has nothing on
its way: where it does not meet a target either, no data plane can.
"""
import collections, json, statistics, sys

PATHS = {"near": "same node", "far": "between nodes", "outside": "node port of another node"}
UNITS = {
    "rate": lambda value: f"{value:,.0f} /s",
    "gbit_per_second": lambda value: f"{value:.2f} Gbit/s",
    "cpu_seconds_per_gbit": lambda value: f"{value * 1000:.1f} ms/Gbit",
}
# What, test, path, field, and its target: (at least, at most), None where a figure has none.
ROWS = [
    ("requests on one connection", "rr", "near", "rate", (1.22, None)),
    ("connections to a Service, a request each", "crr", "near", "rate", (1.36, None)),
    ("connect() to a Service", "connect", "near", "rate", (1.42, None)),
    ("stream, processor time", "stream", "near", "cpu_seconds_per_gbit", (None, 0.80)),
    ("stream", "stream", "near", "gbit_per_second", (None, None)),
    ("requests on one connection", "rr", "far", "rate", (1.25, None)),
    ("connections to a Service, a request each", "crr", "far", "rate", (1.30, None)),
    ("connect() to a Service", "connect", "far", "rate", (1.32, None)),
    ("stream, processor time", "stream", "far", "cpu_seconds_per_gbit", (None, 0.80)),
    ("stream", "stream", "far", "gbit_per_second", (None, None)),
    ("stream", "stream", "outside", "gbit_per_second", (None, None)),
    ("datagrams, GSO", "udp", "outside", "gbit_per_second", (None, None)),
]
# Within one cluster: datagrams against the stream on the same path.
DATAGRAMS = (0.80, None)


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def judge(ratio, target):
    at_least, at_most = target
    if at_least is not None:
        return f"at least {at_least:.2f}", ratio >= at_least
    if at_most is not None:
        return f"at most {at_most:.2f}", ratio <= at_most
    return "", None


def table(runs, ours, reference, family):
    """Rows of (what, ours, reference, ratio, the wire's ratio, target, met)."""
    def values(cluster, path, test, field):
        rounds = runs.get((cluster, family, path, test), {})
        return {number: report[field] for number, report in rounds.items()}

    def ratios(above, below):
        return [above[number] / below[number] for number in sorted(above) if number in below]

    for what, test, path, field, target in ROWS:
        mine, theirs = (values(cluster, path, test, field) for cluster in (ours, reference))
        both = ratios(mine, theirs)
        if not both:
            continue
        bare = ratios(values("wire", path, test, field), theirs)
        bare = f"{statistics.median(bare):.2f}" if bare else ""
        shown = [UNITS[field](statistics.median(each.values())) for each in (mine, theirs)]
        yield f"{what}, {PATHS[path]}", *shown, spread(both), bare, *judge(statistics.median(both), target)
    own = [
        ratios(*(values(cluster, "outside", test, "gbit_per_second") for test in ("udp", "stream")))
        for cluster in (ours, reference)
    ]
    if all(own):
        medians = [f"{statistics.median(each):.2f}" for each in own]
        yield f"datagrams over the stream, {PATHS['outside']}", *medians, spread(own[0]), "", *judge(statistics.median(own[0]), DATAGRAMS)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    path, ours, reference = sys.argv[1:]
    runs = collections.defaultdict(dict)
    for line in open(path):
        number, cluster, family, *where, report = line.split(None, 5)
        runs[cluster, family, *where][int(number)] = json.loads(report)
    missed = False
    for family in sorted({key[1] for key in runs}):
        rounds = max(len(each) for key, each in runs.items() if key[1] == family)
        row = "{:64} {:>14} {:>14}  {:22} {:>5}  {:14} {}".format
        print(row(f"IPv{family}, {rounds} rounds", ours, reference, "ratio", "wire", "", "").rstrip())
        for what, mine, theirs, ratio, bare, target, met in table(runs, ours, reference, family):
            missed |= met is False
            print(row(what, mine, theirs, ratio, bare, target, {None: "", True: "met", False: "MISSED"}[met]).rstrip())
    if not runs:
        sys.exit("no results")
    sys.exit(missed)


if __name__ == "__main__":
    main()
