//! The laboratory, without any data plane of ours: what later journeys stand on. Needs root.

mod life;
mod pods;
mod probes;
