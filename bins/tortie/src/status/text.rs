//! The screen.
//!
//! Invariant: what is wrong comes first and with its fix; what is as it should be takes one line.

use std::fmt::Write as _;

use super::answer::{Interface, MapFill, Rejected, Status};
use super::{NEARLY_FULL, NO_AGENT};
use crate::drops::Total;
use crate::output::{Colour, columns, paint};

/// More contradictions than this do not help a person on one screen.
const MANY: usize = 20;

/// Everything, for a person.
pub fn screen(status: &Status, drops: Option<&Total>, wide: bool) -> String {
    let mut text = health(status);
    text.push('\n');
    text.push_str(&facts(status, drops));
    let kept = |r: &Rejected| r.is_kept() && !r.is_a_note();
    let refused = |r: &Rejected| !r.is_kept();
    let (refused, kept) = (rejected(status, "REJECTED", refused), rejected(status, "NOT ENFORCED", kept));
    for section in [dirty(status), refused, kept, conflicts(status), notes(status)] {
        text.push_str(&section);
    }
    text.push_str(&interfaces(&status.interfaces, wide));
    text.push_str(&maps(&status.maps, wide));
    if wide {
        text.push_str(&programs(status));
    }
    text
}

fn health(status: &Status) -> String {
    let node = if status.node.is_empty() { "this node" } else { &status.node };
    let (colour, word) = match status.health.as_str() {
        "healthy" => {
            return format!("{} {node}: everything is in force\n", paint(Colour::Green, "● healthy"));
        }
        NO_AGENT => (Colour::Red, "no agent"),
        "starting" => (Colour::Yellow, "starting"),
        _ => (Colour::Red, "degraded"),
    };
    let mut text = format!("{} {node}\n", paint(colour, &format!("● {word}")));
    for reason in &status.reasons {
        let _ = writeln!(text, "  · {reason}");
    }
    if status.health == NO_AGENT {
        text.push_str("  · below is what the kernel tells; the data plane works on with it\n");
    }
    text
}

fn facts(status: &Status, drops: Option<&Total>) -> String {
    let join = |parts: Vec<Option<String>>| parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let pods = match status.endpoints {
        1 => "1 pod".to_owned(),
        n => format!("{n} pods"),
    };
    let attach = status.attach.as_deref().map(|attach| match attach {
        "tcx" => "programs attached by TCX links".to_owned(),
        other => format!("programs attached by {other} filters"),
    });
    let agent = join(vec![
        status.version.as_ref().map(|version| format!("tortie {version}")),
        status.uptime_seconds.map(|seconds| format!("up {}", duration(seconds))),
        status.rss_bytes.map(|bytes| format!("{} of memory", size(bytes))),
    ]);
    let kernel = join(vec![status.kernel.clone(), attach]);
    let state = join(vec![
        status.revision.map(|revision| format!("store revision {revision}")),
        status.generation.map(|generation| format!("policy generation {generation}")),
        Some(pods),
    ]);
    let lines = [
        ("agent", agent),
        ("kernel", kernel),
        ("pins", status.bpffs.clone().unwrap_or_default()),
        ("state", state),
        ("store", status.store.as_ref().map(store).unwrap_or_default()),
        ("sockets", status.connect_time.as_ref().map(sockets).unwrap_or_default()),
        ("sweep", status.sweep.as_ref().map(sweep).unwrap_or_default()),
        ("drops", drops.map(Total::sentence).unwrap_or_default()),
    ];
    let mut text = String::new();
    for (name, line) in lines.iter().filter(|(_, line)| !line.is_empty()) {
        let _ = writeln!(text, "{name:<8}{line}");
    }
    text
}

fn store(store: &super::answer::Store) -> String {
    let word = if store.connected { "connected" } else { "away" };
    let since = store.since_seconds.map(|s| format!(" for {}", duration(s))).unwrap_or_default();
    format!("API server {}, {word}{since}", store.server)
}

fn sockets(connect_time: &super::answer::ConnectTime) -> String {
    let attached = connect_time.programs.iter().filter(|program| program.attached).count();
    let programs = match attached {
        0 => "no programs".to_owned(),
        n => format!("{n} programs"),
    };
    let mode = connect_time.mode.as_deref().map(|mode| format!(" {mode}")).unwrap_or_default();
    let cgroup =
        connect_time.cgroup.as_deref().map(|cgroup| format!(" at cgroup {cgroup}")).unwrap_or_default();
    format!("connect-time load balancing{mode}: {programs}{cgroup}")
}

fn sweep(sweep: &super::answer::Sweep) -> String {
    let every = sweep.every_seconds.map(|s| format!("every {s} s, ")).unwrap_or_default();
    if sweep.sweeps == 0 {
        return format!("{every}none yet");
    }
    let sum = |pick: fn(&super::answer::Swept) -> u64| pick(&sweep.ipv4) + pick(&sweep.ipv6);
    let removed = sum(|s| s.expired) + sum(|s| s.stale) + sum(|s| s.orphaned);
    let millis = sweep.busy_micros as f64 / 1000.0;
    format!(
        "{every}the last one looked at {} flow entries and removed {removed}, in {millis:.1} ms",
        sum(|s| s.seen)
    )
}

fn dirty(status: &Status) -> String {
    let mut text = heading("NOT IN FORCE", status.dirty.is_empty());
    for dirty in &status.dirty {
        let _ = writeln!(text, "  {}", dirty.sentence());
    }
    text
}

fn rejected(status: &Status, words: &str, is_wanted: impl Fn(&Rejected) -> bool) -> String {
    let rejected: Vec<&Rejected> = status.rejected.iter().filter(|r| is_wanted(r)).collect();
    let mut text = heading(words, rejected.is_empty());
    for r in rejected {
        let _ = writeln!(text, "  {}", paint(Colour::Bold, &r.origin));
        let _ = writeln!(text, "    {}{}", subject(r), r.problem);
        let _ = writeln!(text, "    fix: {}", r.fix);
        let _ = writeln!(text, "    meanwhile: {}", r.meaning);
    }
    text
}

fn subject(rejected: &Rejected) -> String {
    [&rejected.object, &rejected.field].into_iter().flatten().map(|part| format!("{part}: ")).collect()
}

fn conflicts(status: &Status) -> String {
    let mut text = heading("DO NOT FIT TOGETHER", status.conflicts.is_empty());
    for conflict in status.conflicts.iter().take(MANY) {
        let _ = writeln!(text, "  {}: {}", conflict.contested, conflict.detail);
    }
    if let Some(more) = status.conflicts.len().checked_sub(MANY).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more: `tortie status -o json` lists them");
    }
    text
}

fn notes(status: &Status) -> String {
    let notes: Vec<&Rejected> = status.rejected.iter().filter(|r| r.is_a_note()).collect();
    let mut text = heading("NOT ACTED ON BY THIS VERSION", notes.is_empty());
    for note in notes {
        let _ = writeln!(text, "  {}{} ({})", subject(note), note.problem, note.origin);
    }
    text
}

fn heading(words: &str, empty: bool) -> String {
    if empty { String::new() } else { format!("\n{}\n", paint(Colour::Bold, words)) }
}

/// One line for each interface: both directions beside each other.
fn interfaces(all: &[Interface], wide: bool) -> String {
    let mut names: Vec<&str> = all.iter().map(|i| i.interface.as_str()).collect();
    names.dedup();
    let cell = |name: &str, direction: &str| {
        let found = all.iter().find(|i| i.interface == name && i.direction == direction);
        found.map_or_else(|| "–".to_owned(), |i| program(i, wide))
    };
    let of = |name: &str| all.iter().find(|i| i.interface == name);
    let row = |name: &&str| {
        let found = of(name);
        vec![
            (*name).to_owned(),
            found.map(|i| i.kind.clone()).unwrap_or_default(),
            found.and_then(|i| i.endpoint.clone()).unwrap_or_default(),
            cell(name, "ingress"),
            cell(name, "egress"),
        ]
    };
    let rows: Vec<Vec<String>> = names.iter().map(row).collect();
    format!("\n{}", columns(&["INTERFACE", "KIND", "POD", "INGRESS", "EGRESS"], &rows))
}

fn program(interface: &Interface, wide: bool) -> String {
    let name = interface.program.clone().unwrap_or_else(|| "program".to_owned());
    let id = if wide { format!(" (id {})", interface.program_id) } else { String::new() };
    let before = interface.xdp.as_ref();
    let before = before.map(|xdp| format!("{} (XDP, id {}), then ", xdp.program, xdp.program_id));
    let before = before.unwrap_or_default();
    if interface.attached {
        return format!("{before}{name}{id}");
    }
    paint(Colour::Red, &format!("{before}{name}{id} detached"))
}

fn maps(all: &[MapFill], wide: bool) -> String {
    // A person wants to see the tables that fill; arrays and empty ones are in `-o wide`.
    let shown = all.iter().filter(|map| wide || map.entries.is_some_and(|entries| entries > 0));
    let row = |map: &MapFill| {
        let fill = map.percent().map(|percent| match percent {
            percent if percent >= NEARLY_FULL && !map.fills_up() => {
                paint(Colour::Red, &format!("{percent} % !"))
            }
            0 if map.entries.is_some_and(|entries| entries > 0) => "< 1 %".to_owned(),
            percent => format!("{percent} %"),
        });
        vec![
            map.name.clone(),
            map.entries.map(|entries| entries.to_string()).unwrap_or_default(),
            map.max_entries.to_string(),
            fill.unwrap_or_default(),
            map.memory_bytes.map(size).unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = shown.map(row).collect();
    if rows.is_empty() {
        return "\nmaps: all tables are empty (`-o wide` lists them)\n".to_owned();
    }
    let memory: u64 = all.iter().filter_map(|map| map.memory_bytes).sum();
    let table = columns(&["MAP", "USED", "MAX", "FILL", "MEMORY"], &rows);
    format!("\n{table}{} maps take {} of kernel memory\n", all.len(), size(memory))
}

fn programs(status: &Status) -> String {
    let row = |p: &super::answer::Program| {
        vec![
            p.name.clone(),
            p.id.to_string(),
            p.tag.clone(),
            p.instructions.to_string(),
            p.verified_instructions.to_string(),
            size(p.memory_bytes),
        ]
    };
    let rows: Vec<Vec<String>> = status.programs.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}", columns(&["PROGRAM", "ID", "TAG", "INSTRUCTIONS", "VERIFIED", "MEMORY"], &rows))
}

pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / (1024 * 1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::answer::{Dirty, Xdp};

    #[test]
    fn a_rejection_is_shown_with_file_object_field_fix_and_what_holds_meanwhile() {
        let rejected = Rejected {
            origin: "/store/shop.yaml:12".into(),
            object: Some("NetworkPolicy shop/front".into()),
            field: Some("spec.ingress[0].ports[0].port".into()),
            problem: "99999 is no port".into(),
            fix: "use 1 to 65535".into(),
            effect: "keepsLast".into(),
            meaning: "the last good version stays in force".into(),
            ..Rejected::default()
        };
        let text = screen(&Status { rejected: vec![rejected], ..Status::default() }, None, false);
        for part in [
            "/store/shop.yaml:12",
            "NetworkPolicy shop/front: spec.ingress[0].ports[0].port: 99999 is no port",
            "fix: use 1 to 65535",
            "meanwhile: the last good version",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_wrong_stands_above_what_is_right() {
        let dirty = Dirty { object: "interface eth9".into(), reason: "no such device".into(), attempts: 3 };
        let status = Status {
            health: "degraded".into(),
            reasons: vec!["1 thing is not in force yet".into()],
            dirty: vec![dirty],
            maps: vec![MapFill {
                name: "flow4".into(),
                entries: Some(1),
                max_entries: 9,
                ..MapFill::default()
            }],
            ..Status::default()
        };
        let text = screen(&status, None, false);
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
        assert!(at("degraded") < at("no such device (3 tries)") && at("(3 tries)") < at("flow4"));
    }

    #[test]
    fn a_map_that_is_nearly_full_is_marked() {
        let map = |entries| MapFill {
            name: "m".into(),
            entries: Some(entries),
            max_entries: 100,
            ..MapFill::default()
        };
        assert!(maps(&[map(80)], false).contains("80 % !"));
        assert!(!maps(&[map(79)], false).contains('!'));
        assert!(maps(&[map(0)], false).contains("all tables are empty"));
    }

    #[test]
    fn both_directions_of_an_interface_share_a_line() {
        let one = |direction: &str, program: &str| Interface {
            interface: "cali1".into(),
            direction: direction.into(),
            attached: true,
            program: Some(program.into()),
            ..Interface::default()
        };
        let text = interfaces(&[one("ingress", "fw_1"), one("egress", "tw_1")], false);
        assert!(text.lines().any(|line| line.contains("fw_1") && line.contains("tw_1")), "{text}");
        let mut with = one("ingress", "fw_1");
        with.xdp = Some(Xdp { program: "filter".into(), program_id: 7 });
        let text = interfaces(&[with], false);
        assert!(text.contains("filter (XDP, id 7), then fw_1"), "{text}");
    }
}
