//! The main loop: one thread, one event after the other.
//!
//! Owns: waiting. Does not: do the work; [`Node`] does.
//! Invariant: everything that has happened by now is taken in before anything is carried out, so that a
//! burst costs one round.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Instant;

use anyhow::Context as _;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tortie_host::clsact::FilterEvents;
use tortie_host::links::{Mechanism, best_mechanism};
use tortie_host::memory;
use tortie_host::netlink::{self, Netlink};
use tortie_observe::Names;
use tortie_reconcile::{Reconciler, Saved};
use tortie_store::Store;

use super::Options;
use super::chosen_sizes::ChosenSizes;
use super::drops::Drops;
use super::growth::Crowded;
use super::intake::{Beginning, count, take_in};
use super::node::Node;
use super::observe::Facts;
use super::observe::Observer;
use super::parts::Parts;
use super::server::{Ask, Door, Question, Server};
use super::state_files::StateFiles;
use super::waiters::{Goal, Waiter, Waiters, refused};
use super::{growth, link_check, status};
use crate::inspect::names::from_saved;

/// Batches taken in before they are carried out.
const BURST: usize = 256;

/// The runtime wants a raw descriptor, which nix does not give.
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

struct Loop {
    store: Store,
    network: netlink::Events,
    records: AsyncFd<Watch>,
    questions: mpsc::Receiver<Question>,
    door: Door,
    drops: Drops,
    drop_count: watch::Sender<u64>,
    waiters: Waiters,
    next_resync: Instant,
    next_check: Instant,
    filters: Option<AsyncFd<FilterEvents>>,
}

/// What asks the agent to stop.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let of = |kind, name: &'static str| signal(kind).context(name);
        Ok(Self([
            of(SignalKind::terminate(), "SIGTERM")?,
            of(SignalKind::interrupt(), "SIGINT")?,
            of(SignalKind::hangup(), "SIGHUP")?,
        ]))
    }

    /// Safe to cancel.
    async fn asked(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Why the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// A map is to be larger, which takes a start.
    Again,
}

/// Runs the agent until SIGTERM, SIGINT or SIGHUP, or until it has to start again.
pub async fn run(options: Options, mut store: Store, observer: Observer) -> anyhow::Result<End> {
    let mut stop = Stop::new()?;
    let (questions_in, mut questions) = mpsc::channel(64);
    let (drop_count, drops_seen) = watch::channel(0);
    let server = Server {
        questions: questions_in,
        store: store.handle(),
        drops: drops_seen,
        live: observer.live.clone(),
    };
    let mut door = Door::open(server, &options.run_dir).context("the agent's socket")?;
    let (netlink, network) = Netlink::open()?;
    let records = watch_records(&options)?;

    let mut beginning = Beginning::new(&options, store.handle());
    tokio::select! {
        begun = begin(&mut store, &mut questions, &options, &mut beginning, &observer, &mut door) => begun?,
        () = stop.asked() => return Ok(End::Stopped),
    }
    let mut node = open(options, beginning, netlink, observer)?;
    node.reread_devices().await?;
    node.reread_attachments();
    let drops = Drops::new(node.parts.events()?).context("the programs' events")?;
    let next_resync = Instant::now() + node.options.resync;
    let mut main = Loop {
        store,
        network,
        records,
        questions,
        door,
        drops,
        drop_count,
        waiters: Waiters::default(),
        next_resync,
        next_check: Instant::now() + link_check::EVERY,
        filters: watch_filters(&node)?,
    };
    node.settle().await;
    // From here on the programs in force are those of these maps.
    if let Err(error) = node.parts.maps.leave_followed() {
        tracing::error!(%error, "what programs wrote into a map before it became larger may be lost");
    }
    memory::give_back();
    tracing::info!(node = %node.options.node, endpoints = node.reconciler.endpoint_counts().0, "in force");
    loop {
        node.observe();
        main.waiters.answer(|goal| node.standing(goal));
        let table_is_full = main.drops.take_table_full();
        let crowded = node.growth.crowded(&node.parts, &node.reconciler, table_is_full);
        if let Some(Crowded { map, elements, size }) = crowded {
            tracing::info!(map, elements, size, "a map is getting full; starting again with a larger one");
            return Ok(End::Again);
        }
        let stops = tokio::select! {
            stops = main.step(&mut node) => stops?,
            () = stop.asked() => true,
        };
        if stops {
            tracing::info!("stopping; the data plane goes on");
            // The socket goes, so that callers see at once that nobody answers.
            let _ = std::fs::remove_file(tortie::agent_api::socket_path(&node.options.run_dir));
            return Ok(End::Stopped);
        }
    }
}

/// Reads until the store has said everything it held at the start.
async fn begin(
    store: &mut Store,
    questions: &mut mpsc::Receiver<Question>,
    options: &Options,
    beginning: &mut Beginning,
    observer: &Observer,
    door: &mut Door,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    observer.live.resyncs_started.inc();
    loop {
        observer.vitals.beat();
        let batch = tokio::select! {
            batch = store.next() => batch.context("the store is closed; see its error above")?,
            () = tokio::time::sleep(link_check::EVERY) => {
                door.check();
                continue;
            }
            Some((ask, reply)) = questions.recv() => {
                let answer = match ask {
                    Ask::Status => status::starting(options, begun, beginning),
                    _ => refused("notReady", "the agent has not heard everything from the store yet; see tortie status"),
                };
                // Who has hung up needs no answer.
                let _ = reply.send(answer);
                continue;
            }
        };
        count(&batch, observer);
        observer.vitals.publish(Facts { revision: batch.revision.0, ..Facts::default() });
        beginning.revision = batch.revision;
        let Beginning { calc, rejections, names, running, .. } = &mut *beginning;
        let (in_sync, addresses) = take_in(batch, options, calc, rejections, names, running);
        if addresses.is_some() {
            beginning.node_addresses = addresses;
        }
        if in_sync {
            return Ok(());
        }
    }
}

/// Opens the kernel's parts with the settings that the store has said.
fn open(
    options: Options,
    mut beginning: Beginning,
    netlink: Netlink,
    observer: Observer,
) -> anyhow::Result<Node> {
    let (files, saved) = StateFiles::open(&options.run_dir);
    let mut reconciler = Reconciler::new(saved);
    beginning.calc.flush(&mut |intent| reconciler.receive(intent));
    let settings = reconciler.settings();
    let mechanism = match settings.force_clsact {
        true => Mechanism::Clsact,
        false => best_mechanism(),
    };
    let start = Instant::now();
    let mut sizes = growth::sizes(settings, &reconciler.needed());
    let chosen = ChosenSizes::read(&options.run_dir);
    chosen.compare(&mut sizes);
    let mut parts = Parts::open(&options, &sizes, mechanism)?;
    chosen.remember(&sizes, |map| parts.maps.has_wanted_size(map));
    tracing::info!(
        adopted = parts.datapath.adopted,
        created = parts.maps.created().len(),
        millis = start.elapsed().as_millis(),
        "programs and maps"
    );
    if let Some(traces) = &observer.traces {
        parts.kernel = traces.watch(parts.kernel);
    }
    observer.vitals.set_sweeps(parts.sweeper.reports());
    Ok(Node::new(options, beginning, files, reconciler, parts, netlink, observer))
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the watch owns its descriptor while it is registered"
)]
fn watch_records(options: &Options) -> anyhow::Result<AsyncFd<Watch>> {
    let dir = tortie::agent_api::endpoints_dir(&options.run_dir);
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .context("watching records; raise fs.inotify.max_user_instances")?;
    let what = AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_DELETE;
    inotify.add_watch(&dir, what).with_context(|| dir.display().to_string())?;
    AsyncFd::new(Watch(inotify)).context("watching records")
}

/// Where programs are filters, the kernel tells when somebody changes them.
#[expect(
    deprecated,
    reason = "its successor is unsafe; the socket owns its descriptor while it is registered"
)]
fn watch_filters(node: &Node) -> anyhow::Result<Option<AsyncFd<FilterEvents>>> {
    if node.parts.links.mechanism() == Mechanism::Tcx {
        return Ok(None);
    }
    let events = FilterEvents::open().context("watching filters")?;
    AsyncFd::with_interest(events, tokio::io::Interest::READABLE).context("watching filters").map(Some)
}

/// Waits for a change of filters: `None`: of any of them. Safe to cancel.
async fn filters_changed(filters: &mut Option<AsyncFd<FilterEvents>>) -> io::Result<Option<BTreeSet<u32>>> {
    let Some(filters) = filters else { return std::future::pending().await };
    let mut guard = filters.readable_mut().await?;
    let changed = guard.get_inner().changed();
    guard.clear_ready();
    changed
}

async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

impl Loop {
    /// Waits for one thing to happen, takes in what else has happened, and carries it out.
    async fn step(&mut self, node: &mut Node) -> anyhow::Result<bool> {
        let wake = [
            Some(self.next_resync),
            Some(self.next_check),
            self.waiters.next_deadline(),
            node.next_retry(),
            node.next_observation(),
        ];
        let wake = wake.into_iter().flatten().min().unwrap_or(self.next_resync);
        tokio::select! {
            batch = self.store.next() => match batch {
                Some(batch) => node.batch(batch),
                None => anyhow::bail!("the store has ended; restart the agent"),
            },
            event = self.network.next() => match event {
                Some(event) => node.network(event),
                None => anyhow::bail!("the routing socket is closed; restart the agent"),
            },
            changed = self.records.readable() => {
                changed.context("watching records")?.clear_ready();
                self.drain_records();
                node.reread_attachments();
            }
            question = self.questions.recv() => {
                if let Some((ask, reply)) = question {
                    self.question(ask, reply, node).await;
                }
            }
            read = self.drops.read() => {
                read.context("the programs' events")?;
                let (owners, interfaces) = (node.attachments.owners(), node.devices.names());
                self.drops.name(|place| owners.name(place, &interfaces));
                self.drop_count.send_replace(self.drops.last());
                return Ok(false);
            }
            changed = filters_changed(&mut self.filters) => {
                let changed = changed.context("watching filters")?;
                node.check_links(changed.as_ref());
            }
            () = sleep_until(wake) => {
                if !self.on_time(node).await {
                    return Ok(false);
                }
            }
        }
        for _ in 0..BURST {
            let Some(batch) = self.store.try_next() else { break };
            node.batch(batch);
        }
        while let Some(event) = self.network.try_next() {
            node.network(event);
        }
        node.settle().await;
        Ok(false)
    }

    /// Does what is due by now; whether there may be something to carry out.
    async fn on_time(&mut self, node: &mut Node) -> bool {
        let now = Instant::now();
        let mut due = node.next_retry().is_some_and(|at| at <= now);
        if self.next_check <= now {
            self.next_check = now + link_check::EVERY;
            // Of filters that change the kernel tells.
            let unchanged = BTreeSet::new();
            node.check_links(self.filters.as_ref().map(|_| &unchanged));
            node.check_pins();
            node.compare_pods();
            self.door.check();
            if self.waiters.is_empty() {
                node.make_links();
            }
            due = true;
        }
        if self.next_resync <= now {
            node.resync("timer").await;
            memory::give_back();
            self.next_resync = Instant::now() + node.options.resync;
            due = true;
        }
        due
    }

    /// The names do not matter: the directory is read as a whole.
    fn drain_records(&self) {
        while self.records.get_ref().0.read_events().is_ok_and(|events| !events.is_empty()) {}
    }

    async fn question(&mut self, ask: Ask, reply: oneshot::Sender<Value>, node: &mut Node) {
        let answer = match ask {
            Ask::Enforced(revision, deadline) => {
                node.reread_attachments();
                return self.waiters.add(Waiter { goal: Goal::Enforced(revision), deadline, reply });
            }
            Ask::EndpointReady(id, container, deadline) => {
                node.reread_attachments();
                return self.waiters.add(Waiter { goal: Goal::Endpoint { id, container }, deadline, reply });
            }
            Ask::EndpointGone(id, container) => {
                node.endpoint_gone(&id, &container);
                json!({"ok": true})
            }
            Ask::Status => status::status(node),
            Ask::Services => status::services(node),
            Ask::Drops(since) => {
                let services = node.reconciler.saved_services();
                let saved = Saved { services, ..node.reconciler.saved().clone() };
                let pods = node.attachments.by_netns().iter();
                let names = Names {
                    netns: node.netns,
                    pods_by_netns: pods.map(|(cookie, pod)| (*cookie, pod.to_string())).collect(),
                    ..from_saved(saved, &node.names, node.devices.names())
                };
                self.drops.rows(since, &names)
            }
            Ask::Resync => {
                node.resync("request").await;
                json!({"ok": true})
            }
            Ask::Ping => json!({"ok": true, "generation": node.reconciler.generation()}),
        };
        // Who has hung up needs no answer.
        let _ = reply.send(answer);
    }
}
