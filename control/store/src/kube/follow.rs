//! List and watch: everything of one kind, and then what changes, for as long as somebody listens.
//!
//! Owns: paging, resumption, when to list again, back-off. Does not: keep objects.
//! Invariant: between two `Listed` nothing is left out: a watch goes on where the list or the last event was,
//! and where that cannot be, everything is listed again. A kind that comes to be served in the form that is preferred is
//! followed there: its list there takes the place of what was known, at once.

use super::backoff::{self, Pauses};
use super::connection::{Ask, Connection};
use super::error::ClusterError;
use super::identity::Identity;
use super::lines::{Heard, Lines, version};
use super::served::{self, Api, Served, encoded};
use crate::kind::Kind;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// Objects of one page of a list.
const PAGE: usize = 500;
/// A watch that is refused or garbled so often in a row begins with a new list.
const GIVE_UP_AFTER: u32 = 3;
/// How often we look whether a kind is served by now, beside being told.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// A kind is served some moments after it has been defined; so often we look then, at doubling intervals.
const LOOKS: u32 = 7;
/// Whoever waits for a server asks it again within so many milliseconds of when another one was answered.
const HURRY: u64 = 50;

/// What is followed.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Kind.
    pub kind: &'static Kind,
    /// Only in this namespace; empty: everywhere.
    pub namespace: String,
    /// As kubectl's `--field-selector`; empty: all.
    pub fields: String,
    /// As kubectl's `-l`; empty: all.
    pub labels: String,
    /// Only who they are, nothing of what they say.
    pub metadata_only: bool,
}

impl Subject {
    /// All objects of a kind.
    pub fn all(kind: &'static Kind) -> Self {
        Self {
            kind,
            namespace: String::new(),
            fields: String::new(),
            labels: String::new(),
            metadata_only: false,
        }
    }

    fn ask(&self, path: String, list: &str) -> Ask {
        let accept = match (self.metadata_only, list) {
            (false, _) => "application/json",
            (true, "List") => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            (true, _) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        };
        Ask { accept, ..Ask::get(path) }
    }

    fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in [("fieldSelector", &self.fields), ("labelSelector", &self.labels)] {
            if !value.is_empty() {
                query.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        query
    }
}

/// What the follower says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Signal {
    /// A list begins; objects that are not said again before `Listed` are gone.
    Listing,
    /// As it is now.
    Is(Value),
    /// Deleted; its last state.
    Gone(Value),
    /// The list is complete.
    Listed {
        /// Of how many orders to list again it is the answer.
        orders: u64,
    },
    /// The server has no such kind now.
    NotServed {
        /// As with `Listed`.
        orders: u64,
    },
    /// A watch is open.
    Going,
    /// A watch is over and cannot go on where it was: what happened since will be in a list.
    Behind,
    /// It does not go on for the moment.
    Trouble(ClusterError),
}

/// Tells followers from outside what to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// So many times everything was to be listed again.
    count: std::sync::atomic::AtomicU64,
    woken: Notify,
    /// So many times a kind could have come to be served.
    looks: std::sync::atomic::AtomicU64,
    /// So many times it was defined.
    defined: std::sync::atomic::AtomicU64,
    look: Notify,
}

impl Orders {
    /// Everything is to be listed again, now. Gives the number of this order.
    pub fn list_again(&self) -> u64 {
        let count = self.count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        self.woken.notify_one();
        count
    }

    /// A kind that was not served may be by now.
    pub fn look_again(&self) {
        self.looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.look.notify_waiters();
    }

    /// It may be at any moment now.
    pub fn look_closely(&self) {
        self.defined.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.look_again();
    }

    fn looks(&self) -> u64 {
        self.looks.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Ends when there is a reason to look that was not there yet at `seen`.
    async fn reason_to_look(&self, seen: u64) {
        loop {
            // Made before the question, so that nothing between the two is missed.
            let woken = self.look.notified();
            if self.looks() != seen {
                return;
            }
            woken.await;
        }
    }

    fn count(&self) -> u64 {
        self.count.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Follows one subject until nobody listens.
pub(super) struct Follower {
    pub connection: Connection,
    pub served: Served,
    pub subject: Subject,
    pub orders: Arc<Orders>,
    /// Answers of another cluster are not passed on.
    pub identity: Option<Identity>,
    /// Only what is needed is passed on.
    pub trimmed: bool,
    /// Goes with each signal.
    pub number: usize,
    pub say: mpsc::Sender<(usize, Signal)>,
}

/// How closely a kind that is not served is looked for.
#[derive(Debug, Default)]
struct Attention {
    /// Definitions that have been heeded.
    defined: u64,
    /// Looks that are left.
    left: u32,
}

impl Attention {
    fn pause(&mut self, orders: &Orders, first: Duration) -> Duration {
        let defined = orders.defined.load(std::sync::atomic::Ordering::SeqCst);
        if std::mem::replace(&mut self.defined, defined) != defined {
            self.left = LOOKS;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                first * 2u32.pow(LOOKS.saturating_sub(left).saturating_sub(1))
            }
            None => LOOK_AGAIN,
        }
    }
}

/// Why a watch is over.
enum Ended {
    /// In the ordinary way, or the connection was lost: go on from the version reached.
    Resume,
    /// List again.
    ListAgain,
    /// Nobody listens.
    Closed,
}

impl Follower {
    /// Runs until the listener is gone.
    pub async fn run(self) {
        let timing = self.connection.timing();
        let mut pauses = Pauses::new(timing.first_pause, timing.longest_pause);
        let mut attention = Attention::default();
        loop {
            let orders = self.orders.count();
            let looks = self.orders.looks();
            let api = match self.find().await {
                Ok(Some(api)) => api,
                Ok(None) => {
                    pauses.reset();
                    if !self.said(Signal::NotServed { orders }).await {
                        return;
                    }
                    let pause = attention.pause(&self.orders, timing.first_pause);
                    tokio::select! {
                        () = self.rest(pause, orders) => {}
                        () = self.orders.reason_to_look(looks) => {}
                    }
                    if self.say.is_closed() {
                        return;
                    }
                    continue;
                }
                Err(error) => {
                    if !self.trouble(error, &mut pauses, orders).await {
                        return;
                    }
                    continue;
                }
            };
            match self.list(&api, orders).await {
                Ok(Some(reached)) => {
                    pauses.reset();
                    let from = (orders, looks);
                    if matches!(self.watch(&api, reached, from, &mut pauses).await, Ended::Closed) {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    if error.is_not_found() {
                        self.served.forget();
                    }
                    if error.is_unavailable() && served::prefers(self.subject.kind, &api.api_version) {
                        self.served.forget_version(&api.api_version);
                    }
                    if error.is_expired() {
                        continue;
                    }
                    if !self.trouble(error, &mut pauses, orders).await {
                        return;
                    }
                }
            }
        }
    }

    /// How the kind is served; `None`: it is not, and the server is one that knows.
    async fn find(&self) -> Result<Option<Api>, ClusterError> {
        let kind = self.subject.kind;
        self.check_identity().await?;
        match self.served.find_lately(&self.connection, kind).await {
            Ok(api) => return Ok(Some(api)),
            Err(ClusterError::NotServed { .. }) if kind.is_optional() => {}
            Err(error) => return Err(error),
        }
        // A server that has only just started does not know yet which kinds it has.
        let ready = self.served.ready(&self.connection).await?;
        match self.served.find_since(&self.connection, kind, ready).await {
            Ok(api) => Ok(Some(api)),
            Err(ClusterError::NotServed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn check_identity(&self) -> Result<(), ClusterError> {
        match &self.identity {
            Some(identity) => identity.check(&self.connection).await,
            None => Ok(()),
        }
    }

    fn shaped(&self, mut object: Value) -> Value {
        if self.trimmed {
            super::trim::trim(self.subject.kind, &mut object);
        }
        object
    }

    async fn said(&self, signal: Signal) -> bool {
        self.say.send((self.number, signal)).await.is_ok()
    }

    /// Says what is wrong and waits, for a server that is away no longer than until another one is answered: what is in
    /// force is old meanwhile. `false`: nobody listens.
    async fn trouble(&self, error: ClusterError, pauses: &mut Pauses, orders: u64) -> bool {
        let after = match &error {
            ClusterError::Refused(refusal) => refusal.retry_after,
            _ => None,
        };
        let away = error.is_unreachable() || error.is_unauthorized();
        let wait = pauses.after_failure(away).max(after.unwrap_or_default());
        if !self.said(Signal::Trouble(error)).await {
            return false;
        }
        let hurried = tokio::select! {
            () = self.rest(wait, orders) => false,
            () = self.somebody_is_answered(), if away && !pauses.was_hurried() => true,
        };
        pauses.set_hurried(hurried);
        !self.say.is_closed()
    }

    /// And a moment more, so that not all ask at once.
    async fn somebody_is_answered(&self) {
        self.connection.answers().await;
        tokio::time::sleep(Duration::from_millis(backoff::random(HURRY))).await;
    }

    /// Waits, but not when there is an order or nobody listens any more.
    async fn rest(&self, wait: Duration, orders: u64) {
        let ordered = async {
            while self.orders.count() == orders {
                self.orders.woken.notified().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = ordered => {}
            () = self.say.closed() => {}
        }
    }

    /// Lists everything; gives the version the list is of. `None`: nobody listens.
    async fn list(&self, api: &Api, orders: u64) -> Result<Option<String>, ClusterError> {
        let path = api.collection(&self.subject.namespace);
        let mut next = String::new();
        let mut begun = false;
        loop {
            let page = format!("{path}?limit={PAGE}{}{next}", self.subject.query());
            let mut list = self.connection.json(&self.subject.ask(page, "List")).await?;
            if !std::mem::replace(&mut begun, true) && !self.said(Signal::Listing).await {
                return Ok(None);
            }
            let items = match list.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                // The API gives `null` for none in some versions.
                Some(Value::Null) if list.get("kind").is_some() => Vec::new(),
                _ => return Err(self.malformed("it has no items")),
            };
            let reached = version(&list).map(str::to_owned);
            for mut item in items {
                // Items of a list do not say what they are.
                if let Some(map) = item.as_object_mut() {
                    map.entry("apiVersion").or_insert_with(|| api.api_version.clone().into());
                    map.entry("kind").or_insert_with(|| api.kind.clone().into());
                }
                if !self.said(Signal::Is(self.shaped(item))).await {
                    return Ok(None);
                }
            }
            match list.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(token) if !token.is_empty() => next = format!("&continue={}", encoded(token)),
                _ => {
                    let reached = reached.ok_or_else(|| self.malformed("it has no resourceVersion"))?;
                    return Ok(self.said(Signal::Listed { orders }).await.then_some(reached));
                }
            }
        }
    }

    /// `from`: the orders and looks that have been heeded.
    async fn watch(&self, api: &Api, mut reached: String, from: (u64, u64), pauses: &mut Pauses) -> Ended {
        let (orders, looks) = from;
        let mut failures = 0;
        let mut preferred = std::pin::pin!(self.preferred(api, looks));
        loop {
            let before = reached.clone();
            let began = Instant::now();
            let result = tokio::select! {
                result = self.watch_once(api, &mut reached) => result,
                () = self.ordered(orders) => return Ended::ListAgain,
                () = &mut preferred => return Ended::ListAgain,
                () = self.say.closed() => return Ended::Closed,
            };
            // One of a kind of which nothing changes need not say anything.
            if reached != before || began.elapsed() > self.connection.timing().longest_pause {
                pauses.reset();
                failures = 0;
            }
            let error = match result {
                Ok(Ended::Resume) => {
                    // A server that ends every watch at once is not asked in a circle.
                    if reached == before {
                        self.rest(pauses.after_failure(false), orders).await;
                    }
                    continue;
                }
                Ok(other) => return other,
                Err(error) => error,
            };
            if error.is_expired() || error.is_not_found() {
                if error.is_not_found() {
                    self.served.forget();
                }
                return match self.said(Signal::Behind).await {
                    true => Ended::ListAgain,
                    false => Ended::Closed,
                };
            }
            if !error.is_unreachable() && !error.is_unauthorized() && !error.is_forbidden() {
                failures += 1;
            }
            if !self.trouble(error, pauses, orders).await {
                return Ended::Closed;
            }
            if failures >= GIVE_UP_AFTER {
                return Ended::ListAgain;
            }
        }
    }

    /// Ends when the kind is served in a form that comes before this one.
    async fn preferred(&self, api: &Api, mut looks: u64) {
        let mut attention = Attention::default();
        while served::is_second(self.subject.kind, api) {
            let pause = attention.pause(&self.orders, self.connection.timing().first_pause);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.orders.reason_to_look(looks) => {}
            }
            looks = self.orders.looks();
            let found = self.served.find_lately(&self.connection, self.subject.kind).await;
            if found.is_ok_and(|found| found != *api) {
                return;
            }
        }
        std::future::pending().await
    }

    async fn ordered(&self, orders: u64) {
        while self.orders.count() == orders {
            self.orders.woken.notified().await;
        }
    }

    async fn watch_once(&self, api: &Api, reached: &mut String) -> Result<Ended, ClusterError> {
        self.check_identity().await?;
        let path = api.collection(&self.subject.namespace);
        let until = 290 + backoff::random(300);
        let ask = format!(
            "{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds={until}&resourceVersion={}{}",
            encoded(reached),
            self.subject.query()
        );
        let mut lines =
            Lines::open(&self.connection, &self.subject.ask(ask, ""), self.connection.timing().quiet).await?;
        if !self.said(Signal::Going).await {
            return Ok(Ended::Closed);
        }
        while let Some(heard) = lines.next().await? {
            let (signal, at) = match heard {
                Heard::Bookmark(at) => (None, Some(at)),
                Heard::Is(object) => {
                    let at = version(&object).map(str::to_owned);
                    (Some(Signal::Is(self.shaped(object))), at)
                }
                Heard::Gone(object) => {
                    let at = version(&object).map(str::to_owned);
                    (Some(Signal::Gone(object)), at)
                }
            };
            if let Some(signal) = signal
                && !self.said(signal).await
            {
                return Ok(Ended::Closed);
            }
            // Only what has been said has been reached.
            if let Some(at) = at {
                *reached = at;
            }
        }
        Ok(Ended::Resume)
    }

    fn malformed(&self, cause: &str) -> ClusterError {
        ClusterError::Malformed {
            what: format!("a list of {}", self.subject.kind.plural),
            cause: cause.into(),
        }
    }
}
