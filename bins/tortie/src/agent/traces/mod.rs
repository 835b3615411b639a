//! A change on its way from the datastore's event to the kernel's maps, as an OpenTelemetry trace.
//!
//! Owns: what is a span, its times and attributes. Does not: send them (`exporter`), or decide anything.
//! Invariant: without `--traces-endpoint` there is nothing of this: no thread, no wrapped table, no clock read. With it
//! the main loop never waits: what the collector does not take in time is dropped, and that is logged.

mod exporter;
#[cfg(test)]
mod tests;
mod writes;

use std::mem;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tortie_model::Object;
use tortie_reconcile::{Kernel, Written};
use tortie_store::{Batch, Event};

use super::intake::kind;
use writes::{Write, Writes};

/// Names of objects that a span tells.
const NAMES: usize = 16;
/// How long an agent that ends waits for the collector to take the last traces.
const FAREWELL: Duration = Duration::from_secs(1);

/// Traces of changes.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    heard: Vec<Heard>,
    writes: Writes,
}

/// A batch of the store.
struct Heard {
    from: SystemTime,
    until: SystemTime,
    attributes: Vec<KeyValue>,
}

/// When the main loop has done what.
pub struct Round {
    begun: SystemTime,
    calculated: SystemTime,
    intents: u64,
}

impl Round {
    /// Calculation begins.
    pub fn begin() -> Self {
        let now = SystemTime::now();
        Self { begun: now, calculated: now, intents: 0 }
    }

    /// It has ended, with so many intents.
    pub fn calculated(&mut self, intents: u64) {
        (self.calculated, self.intents) = (SystemTime::now(), intents);
    }
}

impl Traces {
    /// Sends to that collector, on that runtime.
    pub fn start(endpoint: &str, node: &str, runtime: Handle) -> anyhow::Result<Self> {
        let provider = exporter::provider(endpoint, node, runtime)?;
        let tracer = provider.tracer("tortie");
        tracing::info!(endpoint, "each change is traced");
        Ok(Self { provider, tracer, heard: Vec::new(), writes: Writes::default() })
    }

    /// The same kernel, whose writes are seen.
    pub fn watch(&self, kernel: Kernel) -> Kernel {
        self.writes.watch(kernel)
    }

    /// The store has said something, which is taken in now.
    pub fn heard(&mut self, batch: &Batch) {
        let until = SystemTime::now();
        let changes: Vec<&Object> = batch
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Changed(object) => Some(object),
                Event::Rejected(_) | Event::Resolved(_) | Event::InSync => None,
            })
            .collect();
        let names = changes.iter().take(NAMES).map(|object| StringValue::from(name(object)));
        let attributes = vec![
            number("tortie.revision", batch.revision.0),
            number("tortie.changes", changes.len() as u64),
            KeyValue::new("tortie.objects", Value::Array(Array::String(names.collect()))),
        ];
        self.heard.push(Heard { from: batch.heard.unwrap_or(until), until, attributes });
    }

    /// Everything that was heard is carried out. A round in which nothing happened is no trace.
    pub fn tell(&mut self, round: Round, written: Written) {
        let until = SystemTime::now();
        let (writes, left_out) = self.writes.take();
        let heard = mem::take(&mut self.heard);
        if heard.is_empty() && writes.is_empty() {
            return;
        }
        let from = heard.iter().map(|heard| heard.from).min().unwrap_or(round.begun);
        let change = self.open(&Context::new(), "change", from, Vec::new());
        for Heard { from, until, attributes } in heard {
            end(&self.open(&change, "watch event", from, attributes), until);
        }
        let intents = vec![number("tortie.intents", round.intents)];
        end(&self.open(&change, "calc", round.begun, intents), round.calculated);
        let sums = vec![
            number("tortie.written", written.done as u64),
            number("tortie.failed", written.failed as u64),
            number("tortie.writes_left_out", left_out),
        ];
        let reconcile = self.open(&change, "reconcile", round.calculated, sums);
        for Write { from, until, map, operation, elements, failed } in writes {
            let attributes = vec![
                KeyValue::new("tortie.map", map),
                KeyValue::new("tortie.operation", operation),
                number("tortie.elements", elements as u64),
                number("tortie.failed", failed as u64),
            ];
            let write = self.open(&reconcile, "map write", from, attributes);
            if failed > 0 {
                write.span().set_status(Status::error("the kernel refused"));
            }
            end(&write, until);
        }
        end(&reconcile, until);
        end(&change, until);
    }

    /// A span that has begun, as the parent of others.
    fn open(
        &self,
        parent: &Context,
        name: &'static str,
        from: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Context {
        let span = self.tracer.span_builder(name).with_start_time(from).with_attributes(attributes);
        parent.with_span(span.start_with_context(&self.tracer, parent))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FAREWELL) {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

fn end(span: &Context, at: SystemTime) {
    span.span().end_with_timestamp(at);
}

fn number(name: &'static str, value: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))
}

/// Kind and name of an object, as a person writes them.
fn name(object: &Object) -> String {
    let (name, there): (String, bool) = match object {
        Object::Namespace(change) => (change.key.to_string(), change.value.is_some()),
        Object::Node(change) => (change.key.to_string(), change.value.is_some()),
        Object::Workload(change) => (change.key.to_string(), change.value.is_some()),
        Object::Attachment(change) => (change.key.to_string(), change.value.is_some()),
        Object::Service(change) => (change.key.to_string(), change.value.is_some()),
        Object::Slice(change) => (change.key.to_string(), change.value.is_some()),
        Object::NetworkPolicy(change) => (change.key.to_string(), change.value.is_some()),
        Object::Pool(change) => (change.key.to_string(), change.value.is_some()),
        Object::Ranges(change) => (change.key.to_string(), change.value.is_some()),
        Object::OwnAddresses(_) | Object::Settings(_) => (String::new(), true),
    };
    let gone = if there { "" } else { " gone" };
    format!("{} {name}{gone}", kind(object)).trim_end().to_owned()
}
