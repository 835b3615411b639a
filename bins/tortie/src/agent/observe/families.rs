//! Samples as the library's metric families.
//!
//! Invariant: two samples with the same labels are a defect that is told, not two lines.

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts};
use tortie_observe::metrics::{Kind, Metric, Sample};

/// One family for each metric, in no order.
pub fn families(mut samples: Vec<Sample>) -> prometheus::Result<Vec<MetricFamily>> {
    samples.sort_by(|a, b| (a.metric.name, &a.labels).cmp(&(b.metric.name, &b.labels)));
    let mut families = Vec::new();
    for group in samples.chunk_by(|a, b| a.metric.name == b.metric.name) {
        let Some(first) = group.first() else { continue };
        if let Some(twice) = group.windows(2).find(|pair| pair[0].labels == pair[1].labels) {
            let name = first.metric.name;
            let problem = format!("{name}{:?} comes twice; please report this", twice[0].labels);
            return Err(prometheus::Error::Msg(problem));
        }
        families.extend(family(first.metric, group)?);
    }
    Ok(families)
}

fn family(metric: &'static Metric, samples: &[Sample]) -> prometheus::Result<Vec<MetricFamily>> {
    let opts = Opts::new(metric.name, metric.help);
    match metric.kind {
        Kind::Counter => {
            let counters = CounterVec::new(opts, metric.labels)?;
            for sample in samples {
                counters.get_metric_with_label_values(&sample.labels)?.inc_by(sample.value);
            }
            Ok(counters.collect())
        }
        Kind::Gauge => {
            let gauges = GaugeVec::new(opts, metric.labels)?;
            for sample in samples {
                gauges.get_metric_with_label_values(&sample.labels)?.set(sample.value);
            }
            Ok(gauges.collect())
        }
        Kind::Histogram => {
            let problem = format!("{}: a histogram is not sampled; please report this", metric.name);
            Err(prometheus::Error::Msg(problem))
        }
    }
}
