//! The calculation as its users see it: objects in, ordered intents out.

mod cost;
mod endpoints;
mod host_ports;
mod matrix;
mod named_ports;
mod order;
mod pools;
mod random;
mod recipes;
mod routes;
mod selectors;
mod services;
mod support;
